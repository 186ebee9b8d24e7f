// What three objectives are over their λ: a triangle for each, with every measured λ in the shade of its value.

import { h, set, svg } from "./dom.js";
import { estimates, lambdaText, rangeOf, shadeRange, valueText } from "./front.js";
import { marker } from "./marker.js";
import { placeOf, trianglePicture } from "./triangle.js";

/** The triangle's names begin 10 pixels from its corners: what lies on a corner leaves them free. */
const MARK_SIZE = 0.75;
const GREATEST_RADIUS = 9;

/** Gives the element, and `show(front, marks)`: marks with a letter, a series, weights and whether they were measured. */
export function heatTriangles(objectives, { onPick }) {
  const triangles = objectives.map((_, i) => triangle(objectives, i, onPick));
  return {
    element: h("div", { class: "heat" }, ...triangles.map(({ element }) => element)),
    show: (front, marks) => {
      for (const { show } of triangles) show(front, marks);
    },
  };
}

function triangle(objectives, i, onPick) {
  const [ground, top] = [svg("g"), svg("g")];
  const picture = trianglePicture(objectives);
  picture.classList.add("still");
  set(picture, { role: "img" });
  picture.append(ground, top);
  const [low, high] = [h("span", { class: "number" }), h("span", { class: "number" })];
  const legend = h("div", { class: "heat-scale", "aria-hidden": "true" }, low, h("span", { class: "shades" }), high);
  let drawn = null;
  const lay = (front) => {
    const [least, greatest] = rangeOf(front, i);
    const [from, to] = shadeRange(front, i);
    const places = front.points.map(({ lambda }) => placeOf(lambda));
    const radius = Math.min(GREATEST_RADIUS, 0.48 * leastDistance(places));
    ground.replaceChildren(
      ...front.points.map((point, k) => {
        const dot = svg(
          "circle",
          { class: "value", cx: places[k][0], cy: places[k][1], r: radius, on: { click: () => onPick(point) } },
          svg("title", {}, `λ = ${lambdaText(point.lambda)}: ${estimates(front, point)[i]}`),
        );
        const share = (point.values[i] - from) / (to - from);
        dot.style.setProperty("--share", `${(100 * share).toFixed(1)}%`);
        return dot;
      }),
    );
    [low.textContent, high.textContent] = [from, to].map((value) => valueText(front, i, value));
    const best = front.points.find(({ values }) => values[i] === greatest);
    const worst = front.points.find(({ values }) => values[i] === least);
    const ends = `least at ${lambdaText(worst.lambda)}, greatest at ${lambdaText(best.lambda)}`;
    set(picture, { "aria-label": `${objectives[i]} over λ: from ${valueText(front, i, least)} to ${valueText(front, i, greatest)}, ${ends}` });
  };
  return {
    element: h("figure", {}, h("figcaption", {}, objectives[i]), picture, legend),
    show: (front, marks) => {
      if (front !== drawn) lay(front);
      drawn = front;
      top.replaceChildren(...marks.map((mark) => marker(mark, ...placeOf(mark.weights), MARK_SIZE)));
    },
  };
}

/** Of points in the plane; of one alone, infinite. */
function leastDistance(places) {
  let least = Infinity;
  places.forEach(([x, y], k) => {
    for (const [a, b] of places.slice(k + 1)) least = Math.min(least, Math.hypot(x - a, y - b));
  });
  return least;
}
