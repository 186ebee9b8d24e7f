// The view "Find my balance": a person's λ, found by comparing two answers at a time.

import { balanceEnd } from "./balance-end.js";
import { balanceSetup } from "./balance-setup.js";
import { beliefPanel } from "./belief-panel.js";
import { h, set } from "./dom.js";
import { Interview } from "./interview.js";
import { pairPanel } from "./pair.js";

const LEAD = "Say which of two answers you like better, a few times: the weights that fit you are found from that.";
const EXHAUSTED =
  "All answers that were written now were compared before. Other prompts or a higher temperature bring new ones.";

export function balanceView({ api, models, state, onState }) {
  const steered = models.filter(({ objectives }) => objectives.length > 1);
  if (steered.length === 0) {
    const words = "No model here has two objectives or more: there is no balance to find. serve --run NAME adds a run.";
    return { element: h("p", { class: "notice" }, words), restore: () => {}, close: () => {} };
  }
  let running = new AbortController();
  let choice = null;
  let interview = null;
  let recalls = 0;

  const belief = beliefPanel();
  const pair = pairPanel({ onAnswer: (answer) => say(answer) });
  const setup = balanceSetup({ api, models: steered, onChange: onState, onProfile: recall, onBegin: begin });
  const problem = h("div", { class: "notice", role: "alert", hidden: true });
  const stop = h("button", { type: "button", class: "quiet", on: { click: () => stopHere() } }, "Enough for now");
  const asking = h("div", { class: "asking" }, pair.element, problem, h("div", { class: "row" }, stop));
  const place = h("div", { class: "answering" });
  const element = h(
    "div",
    { class: "balance" },
    h("p", { class: "lead" }, LEAD),
    h("div", { class: "beside" }, place, belief.element),
  );

  /** Shows the belief of the profile that is chosen, where it is there. */
  async function recall(model, profile) {
    belief.clear();
    recalls += 1;
    if (profile === null) return;
    const own = recalls;
    try {
      const known = await api.profile(model.id, profile);
      if (own === recalls) belief.show(model, known);
    } catch {
      // Whoever begins is told what is wrong with it.
    }
  }

  function restart() {
    running.abort();
    running = new AbortController();
  }

  function showSetup() {
    restart();
    interview = null;
    place.replaceChildren(setup.element);
  }

  function begin(chosen) {
    restart();
    choice = chosen;
    recalls += 1;
    interview = new Interview({ api, ...chosen, model: chosen.model.id });
    belief.clear();
    ask();
  }

  /** About the prompt whose turn it is. */
  function ask() {
    // Who answers by a button stays there.
    const stays = pair.element.contains(document.activeElement);
    if (!asking.isConnected) place.replaceChildren(asking);
    pair.busy(`${choice.sampling.candidates} answers are being written.`, { ...label(), isNew: true });
    if (!stays) pair.focus();
    attempt(async (signal) => {
      const question = await interview.begin(signal);
      if (signal.aborted) return;
      belief.show(choice.model, interview.known);
      if (question) pair.show(question, label());
      else fail(EXHAUSTED, []);
    });
  }

  function say(answer) {
    pair.busy("Learning from it.", label());
    attempt(async (signal) => {
      const { isEnough, next } = await interview.say(answer, signal);
      if (signal.aborted) return;
      belief.show(choice.model, interview.known);
      if (isEnough) {
        end();
      } else if (next) {
        pair.show(next, label());
      } else {
        interview.turn();
        ask();
      }
    });
  }

  /** Does a step; where it fails, says why, and offers what can be done. */
  async function attempt(step) {
    set(problem, { hidden: true });
    const { signal } = running;
    try {
      await step(signal);
    } catch (error) {
      if (signal.aborted) return;
      // What the server has refused it refuses again: of other answers it may think otherwise.
      const isRefused = error.status !== null && error.status < 429;
      fail(error.message, isRefused ? [] : [["Try again", () => attempt(step)]]);
    }
  }

  function fail(words, ways) {
    pair.rest("");
    const others = interview.prompts.length > 1;
    const next = () => {
      interview.turn();
      ask();
    };
    const all = [
      ...ways,
      ["Write other answers", ask],
      ...(others ? [["Take the next prompt", next]] : []),
      ["Change what is asked", change],
    ];
    problem.replaceChildren(
      h("p", { class: "error" }, words),
      h("div", { class: "row" }, ...all.map(([title, click]) => h("button", { type: "button", on: { click } }, title))),
    );
    set(problem, { hidden: false });
    problem.querySelector("button").focus();
  }

  /** Somebody has had enough before it was. */
  function stopHere() {
    restart();
    if (interview.known?.questions > 0) end();
    else change();
  }

  function end() {
    const { prompt, known } = interview;
    const onGoOn = () => {
      restart();
      interview.goOn();
      ask();
    };
    const found = balanceEnd({ api, choice, known, prompt, onGoOn, onChange: change });
    place.replaceChildren(found.element);
    found.focus();
    found.write(running.signal);
  }

  async function change() {
    showSetup();
    await setup.load();
    setup.focus();
  }

  /** Where in the interview this is. */
  function label() {
    return { number: (interview.known?.questions ?? 0) + 1, asked: interview.prompt };
  }

  function restore(state) {
    showSetup();
    setup.restore(state);
  }

  restore(state);
  return {
    element,
    restore,
    close: () => {
      running.abort();
      pair.close();
    },
  };
}
