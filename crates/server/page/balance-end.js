// What an interview has found: the answer at the λ that is served now, beside one at equal weights.

import { answersInWords } from "./belief-panel.js";
import { h } from "./dom.js";
import { addressOf } from "./url-state.js";
import { inWords, isSame, rounded, uniform } from "./weights.js";
import { writtenAnswer } from "./written.js";

const ENDS = {
  sure: ["Your balance is found", "More answers would hardly change it."],
  asked_enough: ["Enough for one sitting", "You can ask on, now or another day; nothing is lost."],
  ask_on: ["Your balance so far", "More answers would make it surer."],
};

/**
 * `choice` is what the interview was of, `known` what it found, and `prompt` is answered. Gives the element, `write(signal)`,
 * which has both answers written, and `focus()`.
 */
export function balanceEnd({ api, choice, known, prompt, onGoOn, onChange }) {
  const { model, profile, sampling } = choice;
  const { candidates, ...asked } = sampling;
  const found = model.objectives.map((name) => known.preference[name]);
  const equal = uniform(model.objectives.length);
  const byName = (weights) => Object.fromEntries(model.objectives.map((name, i) => [name, rounded(weights[i])]));
  const [title, advice] = ENDS[known.progress];
  const heading = h("h2", { tabindex: -1 }, title);
  // One seed for both, so that λ alone differs.
  const body = { model: model.id, messages: [{ role: "user", content: prompt }], seed: 1, ...asked };
  const answers = [
    { title: `For ${profile}`, preference: byName(found), by: { profile } },
    { title: "At equal weights", preference: byName(equal), by: { preference: byName(equal) } },
  ].map((answer) => ({ ...answer, written: writtenAnswer({ name: `The answer ${answer.title.toLowerCase()}` }) }));
  const compare = {
    prompt,
    answers: [found, equal].map((weights) => ({ model: model.id, weights })),
    sampling: { seed: 1, ...asked },
  };
  const element = h(
    "section",
    { class: "end", "aria-label": title },
    heading,
    h("p", {}, h("strong", {}, inWords(model.objectives, found)), `. ${answersInWords(known)} ${advice}`),
    isSame(found, equal) ? h("p", { class: "note" }, "These are equal weights: both answers are the same.") : null,
    h("p", { class: "asked" }, prompt),
    h(
      "div",
      { class: "answers" },
      ...answers.map(({ title, written }, series) =>
        h("article", { class: `answer series-${series}` }, h("header", {}, h("h3", {}, title)), written.element),
      ),
    ),
    h(
      "div",
      { class: "row" },
      h("button", { type: "button", class: "primary", on: { click: onGoOn } }, "Ask on"),
      h("a", { class: "button", href: addressOf("compare", compare) }, "Open in Compare"),
      h("button", { type: "button", class: "quiet", on: { click: onChange } }, "Other prompts or profile"),
    ),
    h("p", { class: "note" }, `Every request with "profile": "${profile}" is answered at this λ from now on; copy one above.`),
  );
  return {
    element,
    write: (signal) =>
      Promise.all(
        answers.map(({ written, preference, by }) => written.ask({ api, body: { ...body, ...by }, preference, signal })),
      ),
    focus: () => heading.focus(),
  };
}
