// An axis for each objective, one below the other, and the lines of some λ over them; every measured λ is a stroke on each.

import { h, set, svg } from "./dom.js";
import { errorOf, rangeOf, signed, widened } from "./front.js";
import { marker, pointShape, seriesOf } from "./marker.js";
import { isSame } from "./weights.js";

/** Pixels: above an axis for its name, from one line to the next, and below the last one. */
const [NAME, LANE, BELOW] = [19, 14, 12];
/** Pixels to the left and the right of an axis. */
const SIDE = 14;
/** Pixels around a stroke that still mean it. */
const REACH = 6;
const MARK_SIZE = 0.8;

/** A line has a letter, a series, a shape, `index` (of its front), `weights`, `values` and whether these were measured. */
export function parallel(fronts) {
  const { objectives } = fronts[0];
  const several = fronts.length > 1;
  const [ground, top] = [svg("g"), svg("g")];
  const picture = svg("svg", { class: "parallel", role: "img" }, ground, top);
  let axes = [];
  let high = 0;
  let shown = [];

  /** All that does not move, in this width and for so many lines, each in a lane of its own. */
  function lay(width, now, lanes) {
    shown = now;
    const inRange = now.length > 0 ? now : fronts.map((_, index) => index);
    high = NAME + LANE * Math.max(lanes, 1) + BELOW;
    axes = objectives.map((_, i) => axisOf(inRange.map((index) => fronts[index]), i, width));
    set(picture, { viewBox: `0 0 ${width} ${high * objectives.length}`, height: high * objectives.length });
    ground.replaceChildren(...objectives.flatMap((name, i) => drawn(name, i, width)));
  }

  function drawn(name, i, width) {
    const { ends, place } = axes[i];
    const [above, below] = [high * i + NAME, high * (i + 1) - BELOW + 4];
    const decimals = Math.max(0, 2 - Math.floor(Math.log10(ends[1] - ends[0])));
    const [from, to] = ends.map((end) => signed(end.toFixed(decimals)));
    const strokes = shown.flatMap((index) =>
      fronts[index].points.map(({ values }) => {
        const x = place(values[i]).toFixed(1);
        return svg("line", { class: several ? `tick series-${seriesOf(index)}` : "tick", x1: x, x2: x, y1: above, y2: below });
      }),
    );
    return [
      svg("text", { class: "axis", x: SIDE, y: above - 5 }, name),
      svg("text", { class: "number", x: width - SIDE, y: above - 5, "text-anchor": "end" }, `${from} … ${to}`),
      svg("line", { class: "grid", x1: SIDE, x2: width - SIDE, y1: below, y2: below }),
      ...strokes,
    ];
  }

  const laneOf = (i, lane) => high * i + NAME + LANE * (lane + 0.5);
  const along = (values, lane) => values.map((value, i) => [axes[i].place(value), laneOf(i, lane)]);
  const joined = (places) => places.map((at) => at.map((pixel) => pixel.toFixed(1)).join(",")).join(" ");

  /** A line, what is known of the same λ beside it, and its errors where it was measured. */
  function line(entry, lane) {
    const series = several ? seriesOf(entry.index) : entry.series;
    const point = measuredAt(fronts[entry.index], entry.weights);
    const others = several ? shown.filter((index) => index !== entry.index) : [];
    const elsewhere = others.flatMap((index) => {
      const other = measuredAt(fronts[index], entry.weights);
      if (!other) return [];
      const places = along(other.values, lane);
      return [
        svg("polyline", { class: `line is-other series-${seriesOf(index)}`, points: joined(places) }),
        ...places.map(([x, y]) => pointShape({ series: index }, x, y)),
      ];
    });
    const bars = (point?.values ?? []).map((value, i) => {
      const y = laneOf(i, lane);
      const [x1, x2] = [-1, 1].map((side) => axes[i].place(value + side * point.stderr[i]));
      return svg("path", { class: `whisker series-${series}`, d: `M${x1} ${y - 4}v8m0 -4H${x2}m0 -4v8` });
    });
    const exact = along(point?.exact ?? [], lane).map(([x, y]) =>
      svg("line", { class: `best series-${series}`, x1: x, x2: x, y1: y - LANE / 2, y2: y + LANE / 2 }),
    );
    return [
      ...elsewhere,
      svg("polyline", { class: `line series-${series}`, points: joined(along(entry.values, lane)) }),
      ...bars,
      ...exact,
      ...along(entry.values, lane).map(([x, y]) => marker(entry, x, y, MARK_SIZE)),
    ];
  }

  /** What moves: the lines, and that of the λ under the pointer. */
  function put(lines, hovered) {
    const pointedAt = () => {
      const places = hovered.point.values.map((value, i) => axes[i].place(value));
      const middle = (lines.length - 1) / 2;
      return [
        svg("polyline", { class: "pointed-at", points: joined(along(hovered.point.values, Math.max(middle, 0))) }),
        ...places.map((x, i) =>
          svg("line", { class: "pointed-at", x1: x, x2: x, y1: high * i + NAME - 2, y2: high * (i + 1) - BELOW + 6 }),
        ),
      ];
    };
    top.replaceChildren(...(hovered ? pointedAt() : []), ...lines.flatMap(line));
  }

  function near(x, y) {
    const i = Math.floor(y / high);
    if (i < 0 || i >= objectives.length) return null;
    let best = null;
    for (const index of shown) {
      for (const point of fronts[index].points) {
        const at = axes[i].place(point.values[i]);
        const distance = Math.abs(at - x);
        if (distance <= REACH && (best === null || distance < best.distance)) best = { index, point, x: at, y: high * i + NAME, distance };
      }
    }
    return best;
  }

  return {
    element: h("div", { class: "plot" }, picture),
    picture,
    objectives: objectives.map((_, i) => i),
    least: 60,
    lay,
    put,
    near,
  };
}

/** From the least to the greatest value of these fronts and of what is best at their λ, with room for an error on both sides. */
function axisOf(fronts, i, width) {
  const best = fronts.flatMap(({ points }) => points.flatMap(({ exact }) => (exact ? [exact[i]] : [])));
  const values = [...fronts.flatMap((front) => rangeOf(front, i)), ...best];
  const error = Math.max(...fronts.map((front) => errorOf(front, i)));
  const [least, greatest] = widened([Math.min(...values), Math.max(...values)], error);
  const ends = [least - error, greatest + error];
  return { ends, place: (value) => SIDE + ((value - ends[0]) / (ends[1] - ends[0])) * (width - 2 * SIDE) };
}

const measuredAt = (front, weights) => front.points.find(({ lambda }) => isSame(lambda, weights)) ?? null;
