// The view "Compare": one prompt, answers side by side, each under its own λ, all with the same seed.

import { answerCard, resolvedChoice } from "./answer.js";
import { freshId, h, set } from "./dom.js";
import { frontPanel } from "./front-panel.js";
import { samplingFields } from "./sampling.js";
import { uniform, withWeight } from "./weights.js";

const MOST_ANSWERS = 3;

const TITLES = {
  temperature: "Temperature",
  max_tokens: "Tokens of an answer, at most",
  seed: "Seed, the same for all answers",
};

export function compareView({ api, models, state, onState }) {
  let cards = [];
  let running = null;
  // The context holds the prompt and its answer.
  const context = Math.min(...models.map(({ context_length }) => context_length));
  const usual = { temperature: 0.7, max_tokens: Math.min(512, Math.ceil(context / 2)), seed: 1 };
  const fronts = frontPanel({ api, models });

  const promptId = freshId("prompt");
  const prompt = h("textarea", {
    id: promptId,
    rows: 3,
    "aria-describedby": "prompt-hint",
    placeholder: "Ask something",
    on: { change: () => settle(), keydown: (event) => byKey(event) },
  });
  const send = h("button", { type: "submit", class: "primary" }, "Send");
  const stop = h("button", { type: "button", hidden: true, on: { click: () => end() } }, "Stop");
  const more = h("button", { type: "button", class: "quiet", on: { click: () => addOrRemove() } });
  const status = h("p", { class: "status", role: "status" });
  const notices = h("div");
  const sampling = samplingFields({ titles: TITLES, usual, onChange: () => settle() });
  const form = h(
    "form",
    {
      class: "ask",
      // The server checks what is sent, and says what is wrong with it.
      novalidate: true,
      on: {
        submit: (event) => {
          event.preventDefault();
          ask();
        },
      },
    },
    h("label", { for: promptId }, "Prompt"),
    prompt,
    h(
      "div",
      { class: "row" },
      send,
      stop,
      h("span", { id: "prompt-hint", class: "note" }, "Ctrl or ⌘ with Enter sends, Escape stops."),
    ),
    sampling.element,
  );
  const answers = h("div", { class: "answers" });
  const element = h(
    "div",
    { class: "compare" },
    form,
    notices,
    h(
      "div",
      { class: "beside" },
      h(
        "section",
        { class: "answering", "aria-label": "Answers" },
        h("div", { class: "row between" }, h("h2", {}, "Answers"), status, more),
        answers,
      ),
      fronts.element,
    ),
  );

  /** The choices at the beginning: two λ of the first run that differ, or who there is. */
  function usualChoices() {
    const [first] = models;
    const m = first.objectives.length;
    if (m === 0) return [{ model: first.id, weights: null }];
    const leaning = (i) => ({ model: first.id, weights: withWeight(uniform(m), i, 0.8) });
    return m === 1
      ? [
          { model: first.id, weights: [1] },
          { model: models.at(-1).id, weights: null },
        ]
      : [leaning(0), leaning(1)];
  }

  /** What a third answer begins with. */
  function nextChoice() {
    const run = models.find(({ preference }) => preference);
    return run ? { model: run.id, weights: Object.values(run.preference) } : { model: models[0].id, weights: null };
  }

  function add(choice) {
    const series = cards.length;
    const letter = String.fromCharCode(65 + series);
    const card = answerCard({ letter, series, models, choice, onInput: mark, onChange: settle });
    cards.push(card);
    answers.append(card.element);
  }

  function addOrRemove() {
    if (cards.length < MOST_ANSWERS) add(nextChoice());
    else cards.pop().element.remove();
    settle();
  }

  /** Marks on the fronts follow λ while it moves. */
  function mark() {
    fronts.show(cards.map((card) => ({ letter: card.letter, series: card.series, ...card.choice() })));
  }

  /** Something has come to rest: the address follows. */
  function settle() {
    mark();
    more.textContent = cards.length < MOST_ANSWERS ? "Add an answer" : `Remove answer ${cards.at(-1).letter}`;
    onState({
      prompt: prompt.value,
      answers: cards.map((card) => card.choice()),
      sampling: sampling.all(),
    });
  }

  function restore(state) {
    const wanted = state.answers.slice(0, MOST_ANSWERS).map((answer) => resolvedChoice(answer, models));
    const choices = wanted.length > 0 ? wanted.map(({ choice }) => choice) : usualChoices();
    const problems = wanted.map(({ problem }) => problem).filter((problem) => problem !== null);
    notices.replaceChildren(...problems.map((problem) => h("p", { class: "notice", role: "alert" }, problem)));
    prompt.value = state.prompt;
    sampling.restore(state.sampling);
    choices.forEach((choice, i) => (i < cards.length ? cards[i].restore(choice) : add(choice)));
    for (const card of cards.splice(choices.length)) card.element.remove();
    settle();
  }

  async function ask() {
    if (prompt.value.trim() === "") {
      status.textContent = "Write a prompt first.";
      prompt.focus();
      return;
    }
    end();
    settle();
    const abort = new AbortController();
    running = abort;
    set(stop, { hidden: false });
    const asked = [...cards];
    status.textContent = asked.length === 1 ? "An answer is being written." : `${asked.length} answers are being written.`;
    const request = { api, prompt: prompt.value, sampling: sampling.given(), signal: abort.signal };
    const outcomes = await Promise.all(asked.map((card) => card.ask(request)));
    // Somebody may have asked again meanwhile.
    if (running !== abort) return;
    running = null;
    if (document.activeElement === stop) prompt.focus();
    set(stop, { hidden: true });
    const words = asked.map(
      (card, i) => `${card.letter} ${{ whole: "is whole", stopped: "was stopped", failed: "failed" }[outcomes[i]]}`,
    );
    status.textContent = `${words.join(", ")}.`;
  }

  function end() {
    running?.abort();
  }

  function byKey(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  }

  const escape = (event) => event.key === "Escape" && end();
  document.addEventListener("keydown", escape);
  restore(state);
  return {
    element,
    restore,
    close: () => {
      end();
      document.removeEventListener("keydown", escape);
    },
  };
}
