// The picture of measured fronts: a plane for two objectives, three planes for three, for more the axes of all with the lines of
// some λ, and planes of any two.

import { h, set } from "./dom.js";
import { errorsInWords } from "./errors.js";
import { estimates, lambdaInWords, rangeOf, valueText } from "./front.js";
import { keptLines } from "./kept-lines.js";
import { parallel } from "./parallel.js";
import { plane } from "./plane.js";
import { isSame } from "./weights.js";

/** With more objectives than that, planes of any two are too many to be open at once. */
const MOST_OPEN = 5;

/**
 * `fronts` are one or several over the same objectives, each with the name of its method. `tallest` is the most pixels that a
 * plane is high; `onPick({ index, point })` is told which point of which front was clicked. The pointer finds what a point is.
 *
 * Gives the element, `mark(marks)` — what is to stand out, each with a letter, a series (which colour and shape), the index of
 * its front, its λ as weights, its values and whether these were measured —, `show(indices)`, which fronts are to be seen, and
 * `keep({ index, point })`, whose line is to stay where there are lines. The picture is drawn anew when its place gets another
 * width.
 */
export function frontPlot(fronts, { tallest = 300, onPick = null, areOpen = false } = {}) {
  const { objectives } = fronts[0];
  const m = objectives.length;
  const pairs = objectives.flatMap((_, i) => objectives.slice(i + 1).map((_, k) => [i, i + 1 + k]));
  const isPlane = m === 2 || m === 3;
  const planes = isPlane || m > 3 ? pairs.map((pair) => plane(fronts, pair, isPlane ? tallest : 220)) : [];
  const first = isPlane ? planes : [parallel(fronts)];
  const behind = isPlane ? [] : planes;
  const parts = [...first, ...behind];
  const state = { marks: [], hovered: null, shown: fronts.map((_, index) => index) };
  const laid = new Map();
  const draw = () => {
    const { shown } = state;
    const lines = withKept(state.marks, kept?.lines(shown) ?? []);
    for (const part of parts) {
      const { width, key } = laid.get(part) ?? { width: 0 };
      if (width < part.least) continue;
      const marks = first.includes(part) ? lines : state.marks;
      const now = [width, shown, marks.length].join(";");
      if (now !== key) {
        part.lay(width, shown, marks.length);
        laid.set(part, { width, key: now });
      }
      part.put(marks, state.hovered);
      set(part.picture, { "aria-label": described(fronts, shown, part.objectives, marks) });
    }
  };
  const kept = m > 3 ? keptLines(fronts, draw) : null;
  const keep = (found) => kept?.keep(found);
  const pick =
    onPick || kept
      ? (found) => {
          keep(found);
          onPick?.(found);
        }
      : null;
  // In the next frame: a picture that changes what is observed would be a loop.
  const resized = () =>
    requestAnimationFrame(() => {
      for (const part of parts) {
        const width = part.element.clientWidth;
        if (width !== laid.get(part)?.width) laid.set(part, { width, key: null });
      }
      draw();
    });
  const observer = new ResizeObserver(resized);
  for (const part of parts) observer.observe(part.element);
  const tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  for (const part of parts) {
    followPointer(part, pick, (found) => {
      state.hovered = found;
      draw();
      point(tip, part, found, fronts);
    });
  }
  return {
    element: h(
      "div",
      { class: "front-plot" },
      h("div", { class: isPlane ? "plots" : "plots axes" }, ...first.map((part) => part.element)),
      kept?.element,
      behind.length > 0
        ? h(
            "details",
            { class: "pairs", open: areOpen && m <= MOST_OPEN },
            h("summary", {}, "Any two objectives against each other"),
            h("div", { class: "plots" }, ...behind.map((part) => part.element)),
          )
        : null,
    ),
    keep,
    mark: (now) => {
      state.marks = now;
      draw();
    },
    show: (indices) => {
      state.shown = indices;
      state.hovered = null;
      set(tip, { hidden: true });
      draw();
    },
  };
}

/** A mark covers the line that was kept of the same λ. */
function withKept(marks, kept) {
  const isMarked = (line) => marks.some(({ index, weights }) => index === line.index && isSame(weights, line.weights));
  return [...marks, ...kept.filter((line) => !isMarked(line))];
}

/** Of a part of the picture, which point the pointer means. */
function followPointer(part, onPick, hover) {
  const found = (event) => {
    const box = part.picture.getBoundingClientRect();
    return part.near(event.clientX - box.left, event.clientY - box.top);
  };
  part.element.addEventListener("pointermove", (event) => {
    const point = found(event);
    set(part.picture, { class: `${part.picture.classList[0]}${point && onPick ? " can-pick" : ""}` });
    hover(point);
  });
  part.element.addEventListener("pointerleave", () => hover(null));
  part.element.addEventListener("click", (event) => {
    const point = found(event);
    if (point && onPick) onPick(point);
    hover(point);
  });
}

/** Says beside a point what it is. */
function point(tip, part, found, fronts) {
  set(tip, { hidden: found === null });
  if (!found) return;
  const front = fronts[found.index];
  tip.replaceChildren(
    ...(fronts.length > 1 ? [h("strong", {}, front.method)] : []),
    h("span", {}, `λ = ${lambdaInWords(front.objectives, found.point.lambda)}`),
    ...estimates(front, found.point).map((text) => h("span", {}, text)),
  );
  part.element.append(tip);
  const [width, height] = [part.element.clientWidth, part.element.clientHeight];
  const left = Math.max(0, Math.min(found.x - tip.offsetWidth / 2, width - tip.offsetWidth));
  const isBelow = found.y < height / 2;
  tip.style.left = `${left}px`;
  tip.style.top = `${isBelow ? found.y + 14 : found.y - 14 - tip.offsetHeight}px`;
}

function described(fronts, shown, objectives, marks) {
  const measured = shown.map((index) => {
    const front = fronts[index];
    const named = objectives.map((i) => {
      const [least, greatest] = rangeOf(front, i).map((value) => valueText(front, i, value));
      return `${front.objectives[i]} from ${least} to ${greatest}`;
    });
    const whose = fronts.length > 1 ? `${front.method}: ` : "";
    return `${whose}${front.points.length} measured points, ${named.join(", ")}`;
  });
  const marked = marks.map((mark) => {
    const values = objectives.map((i) => `${fronts[0].objectives[i]} ${valueText(fronts[0], i, mark.values[i])}`);
    return `${mark.letter}: ${values.join(", ")}`;
  });
  return [...measured, ...marked].join(". ") || "Nothing is shown";
}

/** What the picture shows, in words. */
export function captionOf(fronts) {
  const [{ objectives, exact, method }] = fronts;
  const m = objectives.length;
  const hasLines = m > 3 || m < 2;
  const dots = hasLines ? "Every stroke" : fronts.length > 1 ? "Every small shape" : "Every dot";
  const whose = fronts.length > 1 ? "a method" : `this run (${method})`;
  const measured = `${dots} is ${whose} under one λ, as the records of the evaluation have measured it; more is better.`;
  const others = fronts.length > 1 ? "; the shapes on it are the other methods at the same λ" : "";
  const optimum = fronts.some(({ points }) => points.some((point) => point.exact)) ? ", the thick stroke is the best at its λ" : "";
  const lines = m > 3 ? ` A line is one λ over all objectives, its bars are ± 1 standard error${optimum}${others}.` : "";
  const grey = m === 2 ? "The grey line is" : "Between two objectives, grey dots are";
  const best = m > 1 && exact ? ` ${grey} the best that any policy can do${m === 2 ? "" : " at the same λ"}.` : "";
  const hasDominated = fronts.some(({ points }) => points.some((point) => point.non_dominated === false));
  const hollow = hasDominated && m > 1 ? " Hollow: another point of the method is at least as good in everything." : "";
  const errors = m > 1 ? errorsInWords(fronts) : "";
  return `${measured}${lines}${best}${hollow}${errors} A dashed rim: not measured at this λ.`;
}
