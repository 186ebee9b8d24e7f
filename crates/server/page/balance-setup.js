// What an interview begins with: which model, whose profile, which prompts.

import { freshId, h, set } from "./dom.js";
import { samplingFields } from "./sampling.js";

/** As the server takes a name. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const TITLES = {
  candidates: "Answers to a prompt, of which two are shown",
  temperature: "Temperature",
  max_tokens: "Tokens of an answer, at most",
  seed: "Seed; without one, answers are others each time",
};

/**
 * `models` have two objectives or more. `onChange(state)` is called when something has settled, `onProfile(model, name)` where
 * a profile that is there is chosen, and with null where it is none, and `onBegin(choice)` to begin.
 */
export function balanceSetup({ api, models, onChange, onProfile, onBegin }) {
  // The profiles of the model that is chosen; nothing where it has none, for a reason that is said.
  let known = null;
  let loads = 0;
  // The model and the profile that `onProfile` was called with.
  let told = null;

  const context = Math.min(...models.map(({ context_length }) => context_length));
  const usual = { candidates: 20, temperature: 0.7, max_tokens: Math.min(128, Math.ceil(context / 2)), seed: null };
  const [modelId, nameId, promptsId, nameHint, promptsHint] = ["model", "name", "prompts", "hint", "hint"].map(freshId);
  const select = h(
    "select",
    { id: modelId, on: { change: () => load() } },
    ...models.map(({ id, objectives }) => h("option", { value: id }, `${id}: ${objectives.join(", ")}`)),
  );
  const name = h("input", {
    id: nameId,
    type: "text",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    maxlength: 64,
    "aria-describedby": nameHint,
    on: { input: () => look(), change: () => settle() },
  });
  const names = h("div", { class: "row names", role: "group", "aria-label": "Profiles that there are", hidden: true });
  const prompts = h("textarea", {
    id: promptsId,
    rows: 4,
    placeholder: "When does the bakery open?\nWhere is the library?",
    "aria-describedby": promptsHint,
    on: { change: () => settle() },
  });
  const sampling = samplingFields({ titles: TITLES, usual, onChange: () => settle() });
  const begin = h("button", { type: "submit", class: "primary" }, "Begin");
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  const notes = h("div");
  const element = h(
    "form",
    {
      class: "setup",
      novalidate: true,
      on: {
        submit: (event) => {
          event.preventDefault();
          check();
        },
      },
    },
    h(
      "div",
      { class: "fields" },
      h("div", { class: "field" }, h("label", { for: modelId }, "Model"), select),
      h(
        "div",
        { class: "field" },
        h("label", { for: nameId }, "Profile"),
        name,
        h("p", { id: nameHint, class: "note" }, "A name to find it by again. It is kept beside the model, with every answer."),
        names,
      ),
    ),
    h(
      "div",
      { class: "field" },
      h("label", { for: promptsId }, "Prompts"),
      prompts,
      h("p", { id: promptsHint, class: "note" }, "One a line, of the kind that you will ask later. Three or four do well."),
    ),
    sampling.element,
    notes,
    problem,
    h("div", { class: "row" }, begin),
  );

  const model = () => models.find(({ id }) => id === select.value);
  const isKnown = () => known !== null && known.includes(name.value);

  const tell = () => onChange({ model: select.value, profile: name.value, prompts: prompts.value, sampling: sampling.all() });

  function settle() {
    tell();
    const now = isKnown() ? name.value : null;
    const key = `${select.value}\n${now ?? ""}`;
    if (key === told) return;
    told = key;
    onProfile(model(), now);
  }

  /** The name has changed. */
  function look() {
    begin.textContent = isKnown() ? `Go on with ${name.value}` : "Begin";
    for (const button of names.children) set(button, { "aria-pressed": String(button.textContent === name.value) });
  }

  function say(words, field = null) {
    problem.textContent = words ?? "";
    set(problem, { hidden: !words });
    field?.focus();
  }

  /** Asks for the profiles of the model. */
  async function load() {
    loads += 1;
    const own = loads;
    known = null;
    set(begin, { disabled: true });
    say(null);
    try {
      const { data, notes: found } = await api.profiles(select.value);
      if (own !== loads) return;
      known = data;
      notes.replaceChildren(...found.map((note) => h("p", { class: "note" }, note)));
      set(begin, { disabled: false });
    } catch (error) {
      if (own !== loads) return;
      notes.replaceChildren();
      say(error.message);
    }
    const take = (profile) => {
      name.value = profile;
      look();
      settle();
    };
    names.replaceChildren(
      ...(known ?? []).map((profile) =>
        h("button", { type: "button", class: "quiet", on: { click: () => take(profile) } }, profile),
      ),
    );
    set(names, { hidden: names.children.length === 0 });
    look();
    settle();
  }

  function check() {
    const lines = prompts.value
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "");
    if (!NAME.test(name.value)) {
      const characters = "1 to 64 letters, digits, dots, dashes or underscores";
      const rule = `A profile's name has ${characters}, and begins with a letter or digit.`;
      return say(rule, name);
    }
    if (lines.length === 0) return say("Write a prompt first.", prompts);
    say(null);
    settle();
    const given = sampling.given();
    return onBegin({
      model: model(),
      profile: name.value,
      prompts: lines,
      sampling: { candidates: usual.candidates, ...given },
    });
  }

  return {
    element,
    /** What an address says. */
    restore: (state) => {
      const isHere = models.some(({ id }) => id === state.model);
      select.value = isHere ? state.model : models[0].id;
      name.value = state.profile;
      prompts.value = state.prompts;
      sampling.restore(state.sampling);
      tell();
      const missing = `The address names the model ${state.model}, of which no balance can be found here`;
      load().then(() => !isHere && state.model !== null && say(`${missing}; ${models[0].id} stands in for it.`));
    },
    /** The profiles may be others by now. */
    load,
    focus: () => name.focus(),
  };
}
