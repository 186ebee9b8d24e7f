// The λ that a reader has picked to stay as lines, in a list that keys reach.

import { h } from "./dom.js";
import { lambdaInWords } from "./front.js";
import { isSame } from "./weights.js";

/** With the marks of the page there are as many lines as colours. */
const MOST = 3;
/** The series before it are those of marks. */
const FIRST_SERIES = 3;

/** Gives the element, `keep({ index, point })`, and `lines(shown)`. `onChange()` is told when there is one more or less. */
export function keptLines(fronts, onChange) {
  const { objectives } = fronts[0];
  let kept = [];
  const several = fronts.length > 1;
  const nameOf = ({ index, point }) => {
    const lambda = lambdaInWords(objectives, point.lambda);
    return several ? `${fronts[index].method}, ${lambda}` : lambda;
  };
  const choices = fronts.flatMap(({ points }, index) => points.map((point) => ({ index, point })));
  const select = h(
    "select",
    { "aria-label": "Measured λ whose line is added" },
    ...choices.map((choice, k) => h("option", { value: k }, nameOf(choice))),
  );
  // Arrow keys alone choose in a list: only the button adds.
  const add = h("button", { type: "button", class: "quiet", on: { click: () => keep(choices[Number(select.value)]) } }, "Add its line");
  const said = h("p", { class: "note", "aria-live": "polite" });
  const list = h("ul", { class: "kept" });

  function keep({ index, point }) {
    if (kept.some((other) => other.index === index && isSame(other.point.lambda, point.lambda))) return;
    // The one that was picked first makes room.
    if (kept.length === MOST) kept = kept.slice(1);
    const slot = [...Array(MOST).keys()].find((slot) => kept.every((other) => other.slot !== slot));
    kept = [...kept, { index, point, slot }];
    show();
    onChange();
  }

  function remove(one) {
    kept = kept.filter((other) => other !== one);
    show();
    select.focus();
    onChange();
  }

  function show() {
    said.textContent =
      kept.length === 0
        ? "No λ is picked yet: click a stroke, or choose a λ here and add it, and its line stays."
        : `Picked λ, ${MOST} at most; one more takes the place of the first.`;
    list.replaceChildren(
      ...kept.map((one) =>
        h(
          "li",
          { class: `series-${several ? "none" : FIRST_SERIES + one.slot}` },
          h("span", { class: "badge small" }, `${one.slot + 1}`),
          h("span", {}, nameOf(one)),
          h(
            "button",
            { type: "button", class: "quiet", "aria-label": `Remove line ${one.slot + 1}`, on: { click: () => remove(one) } },
            "Remove",
          ),
        ),
      ),
    );
  }
  show();

  return {
    element: h("div", { class: "kept-lines", role: "group", "aria-label": "Lines of picked λ" }, said, list, h("div", { class: "row" }, select, add)),
    keep,
    /** Of the fronts that are seen. */
    lines: (shown) =>
      kept
        .filter(({ index }) => shown.includes(index))
        .map(({ index, point, slot }) => ({
          letter: `${slot + 1}`,
          series: several ? "none" : FIRST_SERIES + slot,
          shape: FIRST_SERIES + slot,
          index,
          weights: point.lambda,
          values: point.values,
          isMeasured: true,
        })),
  };
}
