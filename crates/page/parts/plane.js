// Two objectives of measured fronts, one to the right and one upwards.

import { axis } from "./axis.js";
import { h, set, svg } from "./dom.js";
import { areChosen, chosenPoints, correlationOf, ellipseOf } from "./errors.js";
import { errorOf } from "./front.js";
import { marker, pointShape, seriesOf } from "./marker.js";

/** Pixels around a plane, for numbers and names; to its left there are as many as the numbers take. */
const MARGIN = { top: 28, right: 16, bottom: 44 };
/** Pixels of a digit. */
const DIGIT = 6.5;
/** Pixels from a point's middle to its edge, about. */
const DOT = 4;
/** Pixels around a point that still mean it. */
const REACH = 14;

/** Objective `i` to the right and `j` upwards, at most `tallest` pixels high. */
export function plane(fronts, [i, j], tallest) {
  const objectives = fronts[0].objectives;
  const isLine = objectives.length === 2;
  const [ground, top] = [svg("g"), svg("g")];
  const picture = svg("svg", { class: "plane", role: "img" }, ground, top);
  let place = null;
  let placed = [];

  /** All that does not move, in this width; `shown` are the fronts to show. Where there are none, the axes are those of all. */
  function lay(width, shown) {
    const inRange = shown.length > 0 ? shown : fronts.map((_, index) => index);
    const at = ({ values }) => [values[i], values[j]];
    // Of two objectives the best front is a line; of more a surface, of which the measured λ have points.
    const exact = (fronts[0].exact ?? []).map((values) => [values[i], values[j]]);
    const height = Math.round(Math.min(width * 0.8, tallest));
    const [upper, bottom, right] = [MARGIN.top, height - MARGIN.bottom, width - MARGIN.right];
    const around = ({ values, stderr }) => [-1, 1].map((side) => [i, j].map((k) => values[k] + side * stderr[k]));
    const measured = inRange.flatMap((index) => fronts[index].points.map(at));
    const all = [...measured, ...withErrors(inRange).flatMap(around), ...exact];
    const values = (axis) => all.map((at) => at[axis]);
    const error = (objective) => Math.max(...inRange.map((index) => errorOf(fronts[index], objective)));
    const y = axis(values(1), error(j), bottom, upper, () => 40);
    const left = 14 + DIGIT * Math.max(...y.ticks.map(({ text }) => text.length));
    const x = axis(values(0), error(i), left, right, (text) => 16 + DIGIT * text.length);
    place = ([a, b]) => [x.place(a), y.place(b)];
    placed = shown.flatMap((index) =>
      inOrder(fronts[index]).map((point) => {
        const [x, y] = place(at(point));
        return { index, point, x, y };
      }),
    );
    const line = (places) => places.map((at) => at.map((pixel) => pixel.toFixed(1)).join(",")).join(" ");
    const along = (index) => line(placed.filter((point) => point.index === index).map(({ x, y }) => [x, y]));
    set(picture, { viewBox: `0 0 ${width} ${height}`, height });
    ground.replaceChildren(
      ...x.ticks.map(({ at }) => svg("line", { class: "grid", x1: at, x2: at, y1: bottom, y2: upper })),
      ...y.ticks.map(({ at }) => svg("line", { class: "grid", x1: left, x2: right, y1: at, y2: at })),
      ...x.ticks.map(({ at, text }) => svg("text", { class: "number", x: at, y: bottom + 16, "text-anchor": "middle" }, text)),
      ...y.ticks.map(({ at, text }) => svg("text", { class: "number", x: left - 6, y: at + 4, "text-anchor": "end" }, text)),
      svg("text", { class: "axis", x: right, y: height - 8, "text-anchor": "end" }, `${objectives[i]} →`),
      svg("text", { class: "axis", x: 8, y: 17 }, `↑ ${objectives[j]}`),
      ...(isLine ? [svg("polyline", { class: "exact", points: line(exact.map(place)) })] : exact.map(place).map(exactPoint)),
      ...(isLine ? shown : []).map((index) => svg("polyline", { class: lineClass(fronts, index), points: along(index) })),
      ...placed.map(({ index, point, x, y }) =>
        pointShape({ series: fronts.length > 1 ? index : null, isDominated: point.non_dominated === false }, x, y),
      ),
      ...withErrors(shown).flatMap(errors),
    );
  }

  /** What moves: marks, and the point under the pointer. */
  function put(marks, hovered) {
    top.replaceChildren(
      ...marks.map((mark) => marker(mark, ...place([mark.values[i], mark.values[j]]))),
      ...(hovered ? pointedAt(hovered.point) : []),
    );
  }

  /** All points of these fronts, or some of them where all would be a thicket. */
  function withErrors(indices) {
    const these = indices.map((index) => fronts[index]);
    const points = ({ points }) => points;
    return these.flatMap(areChosen(these) ? (front) => [...chosenPoints(front, [i, j])] : points);
  }

  /** One standard error around a point: an ellipse or, where nobody kept how the errors go together, bars. */
  function errors(point) {
    const { values, stderr } = point;
    const [x, y] = place([values[i], values[j]]);
    const [right, above] = place([values[i] + stderr[i], values[j] + stderr[j]]);
    const [dx, dy] = [right - x, y - above];
    // Within the point's own mark nobody would see them.
    if (Math.hypot(dx, dy) < DOT) return [];
    const correlation = correlationOf(point, i, j);
    if (correlation === null) {
      const bar = ([x1, y1], [x2, y2]) => svg("line", { class: "standard-error", x1, y1, x2, y2 });
      return [bar([x - dx, y], [x + dx, y]), bar([x, y - dy], [x, y + dy])];
    }
    // Pixels grow downwards; an ellipse without any width would not be seen.
    const { long, short, angle } = ellipseOf(dx * dx, dy * dy, -correlation * dx * dy);
    const transform = `translate(${x.toFixed(2)} ${y.toFixed(2)}) rotate(${((angle * 180) / Math.PI).toFixed(2)})`;
    return [svg("ellipse", { class: "standard-error", rx: long.toFixed(2), ry: Math.max(short, 0.5).toFixed(2), transform })];
  }

  function pointedAt(point) {
    const [cx, cy] = place([point.values[i], point.values[j]]);
    return [...errors(point), svg("circle", { class: "pointed-at", cx, cy, r: 7 })];
  }

  return {
    element: h("div", { class: "plot" }, picture),
    picture,
    objectives: [i, j],
    least: 120,
    lay,
    put,
    near: (x, y) => nearest(placed, (point) => Math.hypot(point.x - x, point.y - y)),
  };
}

const exactPoint = ([x, y]) => svg("circle", { class: "exact-point", cx: x.toFixed(1), cy: y.toFixed(1), r: 4 });

const lineClass = (fronts, index) => (fronts.length > 1 ? `measured series-${seriesOf(index)}` : "measured");

function nearest(points, distance) {
  let best = null;
  for (const point of points) {
    if (distance(point) <= REACH && (best === null || distance(point) < distance(best))) best = point;
  }
  return best;
}

/** Along the front of two objectives. */
const inOrder = (front) => [...front.points].sort((a, b) => a.lambda[0] - b.lambda[0]);
