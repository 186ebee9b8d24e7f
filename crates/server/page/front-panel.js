// What was measured of the runs that answer, with a mark for each answer's λ.

import { h } from "./dom.js";
import { frontInWords, readFront } from "./front.js";
import { captionOf, frontPlot } from "./front-plot.js";

/** Gives the element, and `show(answers)`: each with a letter, a series, a model and weights. */
export function frontPanel({ api, models }) {
  const sections = new Map();
  const element = h("aside", { class: "fronts", "aria-label": "Measured fronts" });
  return {
    element,
    show: (answers) => {
      const steered = answers.filter(({ weights }) => weights !== null);
      const names = [...new Set(steered.map(({ model }) => model))];
      for (const name of names) {
        if (!sections.has(name))
          sections.set(
            name,
            section(
              api,
              models.find(({ id }) => id === name),
            ),
          );
      }
      const now = names.map((name) => sections.get(name));
      if (now.some((section, i) => element.children[i] !== section.element) || element.children.length !== now.length) {
        element.replaceChildren(...now.map((section) => section.element));
      }
      for (const name of names) sections.get(name).show(steered.filter(({ model }) => model === name));
    },
  };
}

function section(api, model) {
  const body = h("div");
  const element = h("section", {}, h("h2", {}, `Measured front of ${model.id}`), body);
  if (!model.has_front) {
    body.append(
      h("p", {}, "Nobody has measured it. This does; then start the server again:"),
      h("pre", { class: "curl", tabindex: 0, "aria-label": "Command" }, `cargo xtask eval-front --run ${model.id}`),
    );
    return { element, show: () => {} };
  }
  let answers = [];
  let draw = () => {};
  const load = async () => {
    const front = await api.front(model.id);
    const plot = frontPlot([front]);
    const readings = h("ul", { class: "readings" });
    body.replaceChildren(plot.element, readings, h("p", { class: "note" }, captionOf([front])));
    draw = () => {
      const read = answers.map((answer) => ({ ...answer, reading: readFront(front, answer.weights) }));
      plot.mark(
        read.map(({ letter, series, weights, reading }) => ({
          letter,
          series,
          index: 0,
          weights,
          values: reading.values,
          isMeasured: reading.kind === "measured",
        })),
      );
      readings.replaceChildren(
        ...read.map(({ letter, series, reading }) =>
          h(
            "li",
            { class: `series-${series}` },
            h("span", { class: "badge small" }, letter),
            h("span", {}, frontInWords(front, reading)),
          ),
        ),
      );
    };
    draw();
  };
  load().catch((error) => body.replaceChildren(h("p", { class: "error" }, error.message)));
  return {
    element,
    show: (now) => {
      answers = now;
      draw();
    },
  };
}
