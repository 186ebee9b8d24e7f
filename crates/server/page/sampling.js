// How answers are drawn, as numbers to set.

import { h } from "./dom.js";

/** What each may be. */
const ATTRIBUTES = {
  temperature: { min: 0, step: 0.1 },
  max_tokens: { min: 1, step: 1 },
  seed: { step: 1 },
  candidates: { min: 2, step: 1 },
};

/** `titles` says which settings there are and what they are called, `usual` what they begin with; null is left out. */
export function samplingFields({ titles, usual, onChange }) {
  const names = Object.keys(titles);
  const fields = Object.fromEntries(
    names.map((name) => [name, h("input", { type: "number", name, ...ATTRIBUTES[name], on: { change: onChange } })]),
  );
  const valueOf = (name) => (Number.isFinite(fields[name].valueAsNumber) ? fields[name].valueAsNumber : null);
  const all = () => names.map((name) => [name, valueOf(name)]);
  return {
    element: h(
      "details",
      {},
      h("summary", {}, "Sampling"),
      h("div", { class: "settings" }, ...names.map((name) => h("label", {}, h("span", {}, titles[name]), fields[name]))),
    ),
    /** All of them, those that are left out as null. */
    all: () => Object.fromEntries(all()),
    /** Those of a request. */
    given: () => Object.fromEntries(all().filter(([, value]) => value !== null)),
    restore: (wanted) => {
      for (const name of names) fields[name].value = (name in wanted ? wanted[name] : usual[name]) ?? "";
    },
  };
}
