// What stands for a λ in a picture: a small shape where it was measured, a letter in a shape where somebody looks.

import { svg } from "./dom.js";

/** Pixels from one mark's centre to its edge. */
const MARK = 10;

/**
 * A letter in a shape: full where the values were measured, with a dashed rim where they were not. `series` is its colour; `size`
 * makes it smaller where there is little room.
 */
export function marker({ letter, series, shape = series, isMeasured }, x, y, size = 1) {
  const shapes = [
    () => svg("circle", { r: MARK }),
    () => svg("rect", { x: -0.9 * MARK, y: -0.9 * MARK, width: 1.8 * MARK, height: 1.8 * MARK, rx: 2 }),
    () => svg("polygon", { points: `0,${-1.35 * MARK} ${1.35 * MARK},0 0,${1.35 * MARK} ${-1.35 * MARK},0` }),
  ];
  const kind = isMeasured ? "is-measured" : "is-estimate";
  const transform = `translate(${x.toFixed(1)} ${y.toFixed(1)})${size === 1 ? "" : ` scale(${size})`}`;
  return svg(
    "g",
    { class: `mark series-${series} ${kind}`, "data-letter": letter, transform },
    shapes[shape % shapes.length](),
    svg("text", { "text-anchor": "middle", dy: "0.36em" }, letter),
  );
}

/** Corners of the shapes of series, in parts of a radius; the first is a circle. All weigh about the same. */
const CORNERS = [
  null,
  "-0.88,-0.88 0.88,-0.88 0.88,0.88 -0.88,0.88",
  "0,-1.3 1.15,0.75 -1.15,0.75",
  "0,-1.3 1.2,0 0,1.3 -1.2,0",
  "0,1.3 1.15,-0.75 -1.15,-0.75",
];

/** A measured point; `series` is null where there is only one, and it is hollow where another point is better in all. */
export function pointShape({ series, isDominated = false }, x, y) {
  const corners = CORNERS[(series ?? 0) % CORNERS.length];
  const classes = ["point", series === null ? "" : `series-${seriesOf(series)}`, isDominated ? "is-dominated" : ""];
  const attributes = { class: classes.filter(Boolean).join(" "), transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` };
  const radius = series === null ? 3 : 4;
  return svg(
    "g",
    attributes,
    corners
      ? svg("polygon", { points: corners.replace(/-?[0-9.]+/g, (part) => (Number(part) * radius).toFixed(2)) })
      : svg("circle", { r: radius }),
  );
}

/** There are six colours; the shapes, of which there are five, tell the next ones apart. */
export const seriesOf = (k) => k % 6;
