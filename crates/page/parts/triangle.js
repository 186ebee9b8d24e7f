// The simplex of three objectives as a triangle: the nearer a corner, the more its objective counts.

import { svg } from "./dom.js";

const [WIDTH, HEIGHT] = [200, 190];
/** For the objectives in their order. */
const CORNERS = [
  [100, 24],
  [20, 160],
  [180, 160],
];

/** The triangle with its grid and names. What is appended to it lies on top. */
export function trianglePicture(objectives) {
  const points = CORNERS.map((corner) => corner.join(",")).join(" ");
  const grid = [0.25, 0.5, 0.75].flatMap((part) =>
    [0, 1, 2].map((i) => {
      // All λ with this weight on objective i.
      const on = (other) => placeOf(CORNERS.map((_, k) => (k === i ? part : k === other ? 1 - part : 0)));
      const [[x1, y1], [x2, y2]] = [on((i + 1) % 3), on((i + 2) % 3)];
      return svg("line", { class: "grid", x1, y1, x2, y2 });
    }),
  );
  const text = (i, x, y, anchor) =>
    svg(
      "text",
      { x, y, "text-anchor": anchor },
      svg("title", {}, objectives[i]),
      shortened(objectives[i], anchor === "middle" ? 28 : 13),
    );
  return svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "triangle" },
    svg("polygon", { class: "area", points }),
    ...grid,
    svg("polygon", { class: "edge", points }),
    text(0, 100, 14, "middle"),
    text(1, 2, 182, "start"),
    text(2, 198, 182, "end"),
  );
}

/** Where λ lies in the picture. */
export const placeOf = (weights) =>
  [0, 1].map((axis) => weights.reduce((sum, weight, i) => sum + weight * CORNERS[i][axis], 0));

/** The λ of a place, in parts of the picture's width and height; of one outside the triangle, one on its edge. */
export function lambdaAt(across, down) {
  const [x, y] = [across * WIDTH, down * HEIGHT];
  const [[ax, ay], [bx, by], [cx, cy]] = CORNERS;
  const area = (by - cy) * (ax - cx) + (cx - bx) * (ay - cy);
  const first = ((by - cy) * (x - cx) + (cx - bx) * (y - cy)) / area;
  const second = ((cy - ay) * (x - cx) + (ax - cx) * (y - cy)) / area;
  const cut = [first, second, 1 - first - second].map((weight) => Math.max(weight, 0));
  const sum = cut[0] + cut[1] + cut[2];
  return cut.map((weight) => weight / sum);
}

const shortened = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);
