// One answer beside others: who gives it, under which λ, and what it says.

import { CHAT } from "./api.js";
import { asCurl } from "./curl.js";
import { freshId, h, set } from "./dom.js";
import { weightControl } from "./weight-control.js";
import { inWords, isSame, normalised, rounded } from "./weights.js";

/**
 * `choice` is a model of `models` and, where it has objectives, weights on them. `onInput` is called while λ moves, `onChange`
 * when the choice has settled.
 */
export function answerCard({ letter, series, models, choice, onInput, onChange }) {
  const byId = new Map(models.map((model) => [model.id, model]));
  let { model, weights } = choice;
  let control = null;
  // What the text that is shown was asked with, and the λ that the server wrote it under.
  let sent = null;
  let written = null;

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
  const label = h("p", { class: "label" });
  const moved = h("p", { class: "note", hidden: true }, "The control has moved since. Send again for an answer at its λ.");
  // A screen reader waits with a busy region, and reads it when it is whole.
  const text = h("div", { class: "text", "aria-live": "polite", "aria-atomic": "true" });
  const outcome = h("p", { class: "note" });
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  const copied = h("span", { class: "note", role: "status" });
  const command = h("pre", { class: "curl", tabindex: 0, hidden: true, "aria-label": `Answer ${letter} as a curl command` });
  const copy = h("button", { type: "button", class: "quiet", on: { click: () => copyCommand() } }, "Copy as curl");
  const tools = h("div", { class: "row", hidden: true }, copy, copied);
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
    h("div", { class: "written" }, label, text, outcome, problem, moved, tools, command),
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

  function describe(preference) {
    const under = preference
      ? `under ${inWords(Object.keys(preference), Object.values(preference))}`
      : "steered by no preference";
    if (under === written) return;
    written = under;
    label.replaceChildren(h("strong", {}, sent.model), ` ${under}`);
  }

  async function copyCommand() {
    const curl = asCurl(CHAT, sent.body, sent.hasKey);
    command.textContent = curl;
    try {
      await navigator.clipboard.writeText(curl);
      copied.textContent = "Copied.";
    } catch {
      // Browsers let pages copy on this machine and over TLS alone.
      set(command, { hidden: false });
      copied.textContent = "Select it below.";
      command.focus();
    }
  }

  /** Asks, and shows the answer as it comes. Gives `whole`, `stopped` or `failed`. */
  async function ask({ api, prompt, sampling, signal }) {
    const { objectives } = byId.get(model);
    const preference = weights && Object.fromEntries(objectives.map((name, i) => [name, rounded(weights[i])]));
    const body = {
      model,
      ...(preference && { preference }),
      messages: [{ role: "user", content: prompt }],
      ...sampling,
      stream: true,
      stream_options: { include_usage: true },
    };
    sent = { model, weights, body, hasKey: api.hasKey };
    written = null;
    describe(preference);
    const words = document.createTextNode("");
    text.replaceChildren(words);
    for (const note of [outcome, copied]) note.textContent = "";
    for (const part of [problem, moved, command]) set(part, { hidden: true });
    set(tools, { hidden: false });
    set(text, { "aria-busy": "true" });
    let end = "";
    let tokens = null;
    try {
      for await (const piece of api.chat(body, signal)) {
        if (signal.aborted) break;
        describe(piece.preference);
        for (const { delta, finish_reason } of piece.choices) {
          words.appendData(delta.content ?? "");
          if (finish_reason) end = finish_reason === "length" ? ", cut at the longest that an answer may be" : "";
        }
        tokens = piece.usage?.completion_tokens ?? tokens;
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        problem.textContent = error.message;
        set(problem, { hidden: false });
        set(text, { "aria-busy": null });
        return "failed";
      }
    }
    set(text, { "aria-busy": null });
    sent.hasKey = api.hasKey;
    if (signal.aborted) {
      outcome.textContent = "Stopped.";
      return "stopped";
    }
    outcome.textContent = `${tokens} ${tokens === 1 ? "token" : "tokens"}${end}.`;
    return "whole";
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
