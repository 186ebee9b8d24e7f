// Every measured λ of many objectives as a row: its weights, and in the same order what the objectives come to there.

import { h, set, svg } from "./dom.js";
import { estimates, lambdaInWords, shadeRange } from "./front.js";

/** Pixels: of a cell, of the names above, and between the two halves. */
const [WIDE, HIGH, NAMES, GAP] = [24, 13, 92, 28];

/** Gives the element, and `show(front, marks)`: rows with a mark's letter where its λ was measured. `onPick(point)` tells a click. */
export function heatMap(objectives, { onPick }) {
  const m = objectives.length;
  const width = 2 * m * WIDE + GAP + 24;
  const [ground, top] = [svg("g"), svg("g")];
  const picture = svg("svg", { role: "img", class: "heat-map" }, ground, top);
  const left = (i, half) => half * (m * WIDE + GAP) + i * WIDE;
  const above = (row) => NAMES + row * HIGH;
  let drawn = null;

  function cell(row, i, half, share) {
    const box = { x: left(i, half), y: above(row), width: WIDE - 1, height: HIGH - 1 };
    const rect = svg("rect", { class: "value", ...box });
    rect.style.setProperty("--share", `${(100 * Math.min(Math.max(share, 0), 1)).toFixed(1)}%`);
    return rect;
  }

  function name(i, half) {
    const [x, y] = [left(i, half) + WIDE / 2 + 4, NAMES - 6];
    return svg("text", { transform: `translate(${x} ${y}) rotate(-90)` }, svg("title", {}, objectives[i]), shortened(objectives[i]));
  }

  function lay(front) {
    const ranges = objectives.map((_, i) => shadeRange(front, i));
    const shareOf = (point, i) => (point.values[i] - ranges[i][0]) / (ranges[i][1] - ranges[i][0]);
    const rows = front.points.map((point, row) =>
      svg(
        "g",
        { class: "can-pick", on: { click: () => onPick(point) } },
        svg("title", {}, `λ = ${lambdaInWords(objectives, point.lambda)}: ${estimates(front, point).join(", ")}`),
        ...objectives.map((_, i) => cell(row, i, 0, point.lambda[i])),
        ...objectives.map((_, i) => cell(row, i, 1, shareOf(point, i))),
      ),
    );
    const names = [0, 1].flatMap((half) => objectives.map((_, i) => name(i, half)));
    ground.replaceChildren(...names, ...rows);
    const height = above(front.points.length) + 4;
    set(picture, { viewBox: `0 0 ${width} ${height}`, width, height });
    set(picture, { "aria-label": `${front.points.length} measured λ of ${front.method}; the table below has their numbers` });
  }

  return {
    element: h(
      "div",
      { class: "scroll", role: "region", "aria-label": "λ and what they come to", tabindex: 0 },
      h("p", { class: "note" }, "Left the weights of λ, right the objectives, each on its own scale: darker is more. A click picks a row."),
      picture,
    ),
    show: (front, marks) => {
      if (front !== drawn) lay(front);
      drawn = front;
      top.replaceChildren(
        ...marks.flatMap(({ letter, weights }) => {
          const row = front.points.findIndex(({ lambda }) => lambda.every((weight, i) => Math.abs(weight - weights[i]) < 1e-3));
          return row < 0 ? [] : [svg("text", { class: "row-mark", x: left(0, 2) - GAP + 6, y: above(row) + HIGH - 3 }, letter)];
        }),
      );
    },
  };
}

const shortened = (text) => (text.length <= 13 ? text : `${text.slice(0, 12)}…`);
