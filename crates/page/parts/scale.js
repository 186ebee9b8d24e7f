// One objective of measured fronts, on a line from its least to its greatest value.

import { h, set, svg } from "./dom.js";
import { rangeOf, valueText } from "./front.js";
import { marker, seriesOf } from "./marker.js";

/** Pixels around a stroke that still mean it. */
const REACH = 6;

export function scale(fronts, i) {
  const [ground, top] = [svg("g"), svg("g")];
  const picture = svg("svg", { class: "scale", role: "img" }, ground, top);
  let place = null;
  let placed = [];
  let [left, right, height] = [14, 0, 0];

  /** All that does not move, in this width and for so many marks, each on a line of its own. */
  function lay(width, shown, rows) {
    height = 30 + 22 * Math.max(rows, 1);
    right = width - 14;
    const inRange = shown.length > 0 ? shown : fronts.map((_, index) => index);
    const ranges = inRange.map((index) => rangeOf(fronts[index], i));
    const [least, greatest] = [Math.min(...ranges.map(([a]) => a)), Math.max(...ranges.map(([, b]) => b))];
    place = (value) =>
      greatest > least ? left + ((value - least) / (greatest - least)) * (right - left) : (left + right) / 2;
    placed = shown.flatMap((index) => fronts[index].points.map((point) => ({ index, point, x: place(point.values[i]), y: 22 })));
    const text = (value) => valueText(fronts[inRange[0]], i, value);
    set(picture, { viewBox: `0 0 ${width} ${height}`, height });
    ground.replaceChildren(
      svg("text", { class: "axis", x: left, y: 14 }, fronts[0].objectives[i]),
      svg("text", { class: "number", x: right, y: 14, "text-anchor": "end" }, `${text(least)} … ${text(greatest)}`),
      ...placed.map(({ index, x }) => svg("line", { class: strokeClass(fronts, index), x1: x, x2: x, y1: 22, y2: height - 4 })),
    );
  }

  /** What moves: marks, and the point under the pointer. */
  function put(marks, hovered) {
    const at = hovered && place(hovered.point.values[i]);
    top.replaceChildren(
      ...(hovered ? [svg("line", { class: "pointed-at", x1: at, x2: at, y1: 20, y2: height - 2 })] : []),
      ...marks.flatMap((mark, row) => {
        const y = 34 + 22 * row;
        return [
          svg("line", { class: "track", x1: left, x2: right, y1: y, y2: y }),
          svg("line", { class: `bar series-${mark.series}`, x1: left, x2: place(mark.values[i]), y1: y, y2: y }),
          marker(mark, place(mark.values[i]), y),
        ];
      }),
    );
  }

  return {
    element: h("div", { class: "plot" }, picture),
    picture,
    objectives: [i],
    least: 60,
    lay,
    put,
    near: (x) => {
      const distance = (point) => Math.abs(point.x - x);
      const inReach = placed.filter((point) => distance(point) <= REACH);
      return inReach.reduce((best, point) => (best && distance(best) <= distance(point) ? best : point), null);
    },
  };
}

const strokeClass = (fronts, index) => (fronts.length > 1 ? `tick series-${seriesOf(index)}` : "tick");
