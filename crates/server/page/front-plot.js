// The picture of a measured front: a plane for two objectives, three planes for three, a scale for each objective for more.

import { h, set, svg } from "./dom.js";
import { errorOf, rangeOf, valueText } from "./front.js";

/** Pixels around a plane, for numbers and names; to its left there are as many as the numbers take. */
const MARGIN = { top: 28, right: 16, bottom: 44 };
/** Pixels of a digit. */
const DIGIT = 6.5;
/** Pixels from one mark's centre to its edge. */
const MARK = 10;

/**
 * Gives the element, and `mark(marks)`: what is to stand out, each with a letter, a series (which colour and shape), its values
 * and whether these were measured. The picture is drawn anew when its place gets another width.
 */
export function frontPlot(front) {
  const m = front.objectives.length;
  const pairs =
    m === 2
      ? [[0, 1]]
      : m === 3
        ? [
            [0, 1],
            [0, 2],
            [1, 2],
          ]
        : [];
  const parts =
    m === 2 || m === 3 ? pairs.map(([i, j]) => plane(front, i, j)) : front.objectives.map((_, i) => scale(front, i));
  let marks = [];
  const draw = () => {
    for (const part of parts) part.draw(part.element.clientWidth, marks);
  };
  // In the next frame: a picture that changes what is observed would be a loop.
  new ResizeObserver(() => requestAnimationFrame(draw)).observe(parts[0].element);
  return {
    element: h("div", { class: m === 3 ? "plots three" : "plots" }, ...parts.map((part) => part.element)),
    mark: (now) => {
      marks = now;
      draw();
    },
  };
}

/** Objective `i` to the right and `j` upwards. */
function plane(front, i, j) {
  const names = [front.objectives[i], front.objectives[j]];
  const picture = svg("svg", { class: "plane", role: "img" });
  const points = front.points.map(({ values }) => [values[i], values[j]]);
  const isLine = front.objectives.length === 2;
  // Of more objectives the best front is a surface, which no line shows.
  const exact = isLine ? (front.exact ?? []).map((values) => [values[i], values[j]]) : [];
  const draw = (width, marks) => {
    if (width < 120) return;
    const height = Math.round(Math.min(width * 0.8, 300));
    const [top, bottom, right] = [MARGIN.top, height - MARGIN.bottom, width - MARGIN.right];
    const values = (axis) => [...points, ...exact].map((point) => point[axis]);
    const y = axis(values(1), errorOf(front, j), bottom, top, () => 40);
    const left = 14 + DIGIT * Math.max(...y.ticks.map(({ text }) => text.length));
    const x = axis(values(0), errorOf(front, i), left, right, (text) => 16 + DIGIT * text.length);
    const place = ([a, b]) => [x.place(a), y.place(b)];
    const line = (points) =>
      points
        .map((point) =>
          place(point)
            .map((at) => at.toFixed(1))
            .join(","),
        )
        .join(" ");
    set(picture, { viewBox: `0 0 ${width} ${height}`, height, "aria-label": described(front, [i, j], marks) });
    picture.replaceChildren(
      ...x.ticks.map(({ at }) => svg("line", { class: "grid", x1: at, x2: at, y1: bottom, y2: top })),
      ...y.ticks.map(({ at }) => svg("line", { class: "grid", x1: left, x2: right, y1: at, y2: at })),
      ...x.ticks.map(({ at, text }) => svg("text", { class: "number", x: at, y: bottom + 16, "text-anchor": "middle" }, text)),
      ...y.ticks.map(({ at, text }) => svg("text", { class: "number", x: left - 6, y: at + 4, "text-anchor": "end" }, text)),
      svg("text", { class: "axis", x: right, y: height - 8, "text-anchor": "end" }, `${names[0]} →`),
      svg("text", { class: "axis", x: 8, y: 17 }, `↑ ${names[1]}`),
      isLine ? svg("polyline", { class: "exact", points: line(exact) }) : "",
      isLine
        ? svg("polyline", { class: "measured", points: line(inOrder(front).map(({ values }) => [values[i], values[j]])) })
        : "",
      ...points.map((point) => {
        const [cx, cy] = place(point);
        return svg("circle", { class: "point", cx, cy, r: 3 });
      }),
      ...marks.map((mark) => marker(mark, ...place([mark.values[i], mark.values[j]]))),
    );
  };
  return { element: h("div", { class: "plot" }, picture), draw };
}

/** Objective `i` on a line from its least to its greatest value. */
function scale(front, i) {
  const picture = svg("svg", { class: "scale", role: "img" });
  const [least, greatest] = rangeOf(front, i);
  const draw = (width, marks) => {
    if (width < 60) return;
    const height = 30 + 22 * Math.max(marks.length, 1);
    const [left, right] = [14, width - 14];
    const place = (value) =>
      greatest > least ? left + ((value - least) / (greatest - least)) * (right - left) : (left + right) / 2;
    set(picture, { viewBox: `0 0 ${width} ${height}`, height, "aria-label": described(front, [i], marks) });
    picture.replaceChildren(
      svg("text", { class: "axis", x: left, y: 14 }, front.objectives[i]),
      svg(
        "text",
        { class: "number", x: right, y: 14, "text-anchor": "end" },
        `${valueText(front, i, least)} … ${valueText(front, i, greatest)}`,
      ),
      ...front.points.map(({ values }) =>
        svg("line", { class: "tick", x1: place(values[i]), x2: place(values[i]), y1: 22, y2: height - 4 }),
      ),
      ...marks.flatMap((mark, row) => {
        const y = 34 + 22 * row;
        return [
          svg("line", { class: "track", x1: left, x2: right, y1: y, y2: y }),
          svg("line", { class: `bar series-${mark.series}`, x1: left, x2: place(mark.values[i]), y1: y, y2: y }),
          marker(mark, place(mark.values[i]), y),
        ];
      }),
    );
  };
  return { element: h("div", { class: "plot" }, picture), draw };
}

/** A letter in a shape: full where the values were measured, with a dashed rim where they were not. */
function marker({ letter, series, isMeasured }, x, y) {
  const shapes = [
    () => svg("circle", { r: MARK }),
    () => svg("rect", { x: -0.9 * MARK, y: -0.9 * MARK, width: 1.8 * MARK, height: 1.8 * MARK, rx: 2 }),
    () => svg("polygon", { points: `0,${-1.35 * MARK} ${1.35 * MARK},0 0,${1.35 * MARK} ${-1.35 * MARK},0` }),
  ];
  const kind = isMeasured ? "is-measured" : "is-estimate";
  return svg(
    "g",
    { class: `mark series-${series} ${kind}`, "data-letter": letter, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` },
    shapes[series % shapes.length](),
    svg("text", { "text-anchor": "middle", dy: "0.36em" }, letter),
  );
}

/**
 * From values to pixels, and round numbers in between, each with at least `room(text)` pixels. At both ends there is some
 * space: not less than the `error` of the values, so that what differs by chance does not look far apart.
 */
function axis(values, error, from, to, room) {
  let [least, greatest] = [Math.min(...values), Math.max(...values)];
  const space = Math.max((greatest - least) * 0.08, error, Number.EPSILON * 1e4 * Math.max(Math.abs(least), 1));
  [least, greatest] = [least - space, greatest + space];
  const place = (value) => from + ((value - least) / (greatest - least)) * (to - from);
  const power = 10 ** Math.floor(Math.log10(greatest - least) - 2);
  for (const step of [1, 2, 5, 10, 20, 50, 100, 200, 500].map((digits) => digits * power)) {
    const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const ticks = [];
    for (let k = Math.ceil(least / step); k * step <= greatest; k += 1) {
      ticks.push({
        at: place(k * step),
        text: (k * step)
          .toFixed(decimals)
          .replace(/^-(0\.?0*)$/, "$1")
          .replace("-", "−"),
      });
    }
    const pixels = (step / (greatest - least)) * Math.abs(to - from);
    if (ticks.every(({ text }) => pixels >= room(text))) return { place, ticks };
  }
  return { place, ticks: [] };
}

/** Along the front of two objectives. */
const inOrder = (front) => [...front.points].sort((a, b) => a.lambda[0] - b.lambda[0]);

function described(front, objectives, marks) {
  const named = objectives.map((i) => {
    const [least, greatest] = rangeOf(front, i).map((value) => valueText(front, i, value));
    return `${front.objectives[i]} from ${least} to ${greatest}`;
  });
  const marked = marks.map((mark) => {
    const values = objectives.map((i) => `${front.objectives[i]} ${valueText(front, i, mark.values[i])}`);
    return `${mark.letter}: ${values.join(", ")}`;
  });
  return [`${front.points.length} measured points, ${named.join(", ")}`, ...marked].join(". ");
}
