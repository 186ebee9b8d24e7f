// What is known of a person: the belief as a picture and in numbers, what a wrong guess costs, and what is served.

import { beliefPicture } from "./belief-picture.js";
import { h, set, svg } from "./dom.js";
import { inWords, shown } from "./weights.js";

/** Gives the element, `show(model, profile)` as the API tells it, and `clear()` before another profile. */
export function beliefPanel() {
  const body = h("div", { class: "known" });
  const heading = h("h2", {}, "");
  const element = h("aside", { class: "fronts", "aria-label": "What is known", hidden: true }, h("section", {}, heading, body));
  let parts = null;
  // By the number of questions that were asked.
  const costs = new Map();
  return {
    element,
    /** Begins anew, with nothing known. */
    clear: () => {
      parts = null;
      costs.clear();
      set(element, { hidden: true });
    },
    show: (model, profile) => {
      if (!parts) {
        parts = panelParts(model);
        body.replaceChildren(...parts.elements);
        heading.textContent = `What is known of ${profile.id}`;
        set(element, { hidden: false });
      }
      if (profile.expected_regret !== null) costs.set(profile.questions, profile.expected_regret);
      parts.show(profile, [...costs.values()]);
    },
  };
}

function panelParts({ objectives, id }) {
  const picture = beliefPicture({ objectives, inWords: (profile) => `The belief: ${believed(objectives, profile)}` });
  const rows = objectives.map((name) => intervalRow(name));
  const count = h("p", { class: "note" });
  const served = h("p", {});
  const cost = h("p", {});
  const line = h("div", { class: "costs" });
  return {
    elements: [
      picture?.element ?? "",
      h("ul", { class: "intervals" }, ...rows.map((row) => row.element)),
      count,
      served,
      cost,
      line,
    ],
    show: (profile, costs) => {
      picture?.show(profile);
      for (const row of rows) row.show(profile);
      const lambda = objectives.map((name) => profile.preference[name]);
      served.replaceChildren(h("strong", {}, "Served: "), `${inWords(objectives, lambda)}.`);
      cost.textContent = costInWords(profile.expected_regret, id);
      if (costs.length > 1) line.replaceChildren(costLine(costs), h("p", { class: "note" }, "The same, question by question."));
      count.textContent = answersInWords(profile);
    },
  };
}

const believed = (objectives, profile) => objectives.map((name) => intervalText(name, profile)).join("; ");

const intervalText = (name, { estimate, intervals }) => `${name} ${shown(estimate[name])} (90 %: ${between(intervals[name])})`;
const between = ([low, high]) => `${shown(low)} to ${shown(high)}`;
const percent = (part) => `${(100 * part).toFixed(1)} %`;

/** A weight: what it is thought to be, and what holds 90 % of the belief. */
function intervalRow(name) {
  const at = { y1: 8, y2: 8 };
  const interval = svg("line", { class: "interval", ...at });
  const dot = svg("circle", { class: "estimate", cy: 8, r: 5 });
  const text = h("span", { class: "number" });
  return {
    element: h(
      "li",
      {},
      h("div", { class: "row between" }, h("span", { class: "objective" }, name), text),
      svg(
        "svg",
        { class: "bar", width: "100%", height: 16, overflow: "visible", "aria-hidden": "true" },
        svg("line", { class: "track", x1: "0%", x2: "100%", ...at }),
        interval,
        dot,
      ),
    ),
    show: ({ estimate, intervals }) => {
      const [low, high] = intervals[name];
      text.textContent = `${shown(estimate[name])} (90 %: ${between([low, high])})`;
      set(interval, { x1: `${100 * low}%`, x2: `${100 * high}%` });
      set(dot, { cx: `${100 * estimate[name]}%` });
    },
  };
}

function costInWords(regret, id) {
  if (regret === null) {
    const unknown = `Nobody has measured the front of ${id}, so nothing is known of what a wrong guess costs`;
    return `${unknown}: the middle of the belief is served.`;
  }
  return `What a wrong guess is thought to cost: ${percent(regret)} of what the run can vary.`;
}

/** The cost after each question of this sitting. */
function costLine(costs) {
  const most = Math.max(...costs);
  const x = (k) => `${(100 * k) / (costs.length - 1)}%`;
  const y = (cost) => 38 - 34 * (most > 0 ? cost / most : 0);
  return svg(
    "svg",
    {
      class: "cost-line",
      width: "100%",
      height: 42,
      overflow: "visible",
      role: "img",
      "aria-label": `The cost after each question: ${costs.map(percent).join(", ")}`,
    },
    svg("line", { class: "track", x1: "0%", x2: "100%", y1: 38, y2: 38 }),
    ...costs.slice(1).map((cost, k) => svg("line", { class: "step", x1: x(k), y1: y(costs[k]), x2: x(k + 1), y2: y(cost) })),
    svg("circle", { class: "estimate", r: 4, cx: x(costs.length - 1), cy: y(costs.at(-1)) }),
  );
}

export function answersInWords({ answers, questions }) {
  if (questions === 0) return "Nothing was answered yet: every balance is as likely.";
  const skipped = questions - answers;
  const after = `After ${answers} ${answers === 1 ? "answer" : "answers"}`;
  return skipped > 0 ? `${after}; ${skipped} ${skipped === 1 ? "question was" : "questions were"} skipped.` : `${after}.`;
}
