// One answer beside others: who gives it, under which λ, and what it says.

import { freshId, h, set } from "./dom.js";
import { weightControl } from "./weight-control.js";
import { inWords, isSame, normalised, rounded } from "./weights.js";
import { writtenAnswer } from "./written.js";

/**
 * `choice` is a model of `models` and, where it has objectives, weights on them. `onInput` is called while λ moves, `onChange`
 * when the choice has settled.
 */
export function answerCard({ letter, series, models, choice, onInput, onChange }) {
  const byId = new Map(models.map((model) => [model.id, model]));
  let { model, weights } = choice;
  let control = null;
  // What the text that is shown was asked with.
  let sent = null;

  const select = h(
    "select",
    {
      "aria-label": `Model of answer ${letter}`,
      on: {
        change: () => {
          const before = byId.get(model).objectives;
          model = select.value;
          const { objectives, preference } = byId.get(model);
          if (objectives.length === 0) weights = null;
          // λ stays where it is between runs of the same objectives.
          else if (!weights || objectives.join("\n") !== before.join("\n")) weights = Object.values(preference);
          place();
          onChange();
        },
      },
    },
    ...models.map(({ id, objectives }) => h("option", { value: id }, objectives.length > 0 ? id : `${id}, the base model`)),
  );
  const steering = h("div", { class: "steering" });
  const moved = h("p", { class: "note", hidden: true }, "The control has moved since. Send again for an answer at its λ.");
  const written = writtenAnswer({ name: `Answer ${letter}`, note: moved });
  const heading = freshId("answer");
  const element = h(
    "article",
    { class: `answer series-${series}`, "aria-labelledby": heading },
    h(
      "header",
      {},
      h(
        "h3",
        { id: heading },
        h("span", { class: "badge", "aria-hidden": "true" }, letter),
        h("span", { class: "unseen" }, `Answer ${letter}`),
      ),
      select,
    ),
    steering,
    written.element,
  );

  /** The control of this model's λ. */
  function place() {
    select.value = model;
    const { objectives, preference } = byId.get(model);
    if (objectives.length === 0) {
      control = null;
      steering.replaceChildren(h("p", { class: "note" }, "The base model: no preference steers it."));
    } else {
      control = weightControl({
        objectives,
        weights,
        label: `λ of answer ${letter}`,
        onInput: (moved) => {
          weights = moved;
          compare();
          onInput();
        },
        onChange,
      });
      const usual = Object.values(preference);
      const reset = () => {
        weights = usual;
        control.set(weights);
        compare();
        onChange();
      };
      const button = h(
        "button",
        {
          type: "button",
          class: "quiet",
          "aria-label": `Default λ for answer ${letter}`,
          title: inWords(objectives, usual),
          on: { click: reset },
        },
        "Default λ",
      );
      steering.replaceChildren(control.element, ...(objectives.length > 1 ? [button] : []));
    }
    compare();
  }

  /** Whether the answer that is shown is one of the choice that is shown. */
  function compare() {
    const isOther = sent !== null && (sent.model !== model || (weights !== null && !isSame(sent.weights, weights)));
    set(moved, { hidden: !isOther });
  }

  /** Asks, and shows the answer as it comes. Gives `whole`, `stopped` or `failed`. */
  function ask({ api, prompt, sampling, signal }) {
    const { objectives } = byId.get(model);
    const preference = weights && Object.fromEntries(objectives.map((name, i) => [name, rounded(weights[i])]));
    const body = {
      model,
      ...(preference && { preference }),
      messages: [{ role: "user", content: prompt }],
      ...sampling,
    };
    sent = { model, weights };
    compare();
    return written.ask({ api, body, preference, signal });
  }

  place();
  return {
    element,
    letter,
    series,
    ask,
    choice: () => ({ model, weights }),
    restore: (choice) => {
      ({ model, weights } = choice);
      place();
    },
  };
}

/**
 * What an address wants, where this server has it: `choice` and, where something else is taken, the `problem` in words.
 */
export function resolvedChoice(wanted, models) {
  const model = models.find(({ id }) => id === wanted.model);
  if (!model) {
    const choice = { model: models[0].id, weights: models[0].preference ? Object.values(models[0].preference) : null };
    return {
      choice,
      problem: `The address names the model ${wanted.model}, which is not here; ${models[0].id} stands in for it.`,
    };
  }
  const m = model.objectives.length;
  if (m === 0) return { choice: { model: model.id, weights: null }, problem: null };
  const usual = Object.values(model.preference);
  if (wanted.weights === null) return { choice: { model: model.id, weights: usual }, problem: null };
  const isOne = wanted.weights.length === m && wanted.weights.some((weight) => weight > 0);
  if (isOne) return { choice: { model: model.id, weights: normalised(wanted.weights) }, problem: null };
  const found = `The address has the weights ${wanted.weights.join(", ")} for ${model.id}`;
  const problem = `${found}, which takes ${m}, not all of them 0; its default stands in for them.`;
  return { choice: { model: model.id, weights: usual }, problem };
}
