// Two answers to compare, by button or by key.

import { h, set } from "./dom.js";

/** What can be said, with its key. */
const CHOICES = [
  { answer: "left", key: "ArrowLeft", sign: "←", title: "Left is better" },
  { answer: "right", key: "ArrowRight", sign: "→", title: "Right is better" },
  { answer: "about_equal", key: "ArrowUp", sign: "↑", title: "About equal" },
  { answer: "skip", key: "ArrowDown", sign: "↓", title: "Skip" },
];

/** Where arrow keys have a meaning of their own. */
const TAKES_ARROWS = "input, textarea, select, [contenteditable], [role=slider]";

/**
 * `onAnswer` is called with what was said. Gives the element, `busy(words)` while there is nothing to answer, `show(question)`,
 * `focus()` and `close()`.
 */
export function pairPanel({ onAnswer }) {
  let isOpen = false;
  const status = h("p", { class: "status", role: "status" });
  const heading = h("h2", { tabindex: -1 });
  const prompt = h("p", { class: "asked" });
  const texts = ["Left", "Right"].map((side) => ({ side, text: h("div", { class: "text" }) }));
  const sides = texts.map(({ side, text }) =>
    h("article", { class: "answer side" }, h("header", {}, h("h3", {}, side)), h("div", { class: "said" }, text)),
  );
  // A screen reader reads a question as one, when it is there.
  const question = h(
    "div",
    { class: "question", "aria-live": "polite", "aria-atomic": "true" },
    heading,
    prompt,
    h("div", { class: "answers" }, ...sides),
  );
  const buttons = CHOICES.map(({ answer, key, sign, title }) =>
    h(
      "button",
      { type: "button", "aria-keyshortcuts": key, on: { click: () => say(answer) } },
      h("kbd", { "aria-hidden": "true" }, sign),
      ` ${title}`,
    ),
  );
  const element = h(
    "section",
    { class: "pair", "aria-label": "Comparison" },
    question,
    h("div", { class: "choices", role: "group", "aria-label": "Which answer is better?" }, ...buttons),
    status,
  );

  function setOpen(now) {
    isOpen = now;
    // Buttons that are disabled would lose the focus.
    for (const button of buttons) set(button, { "aria-disabled": now ? null : "true" });
    set(question, { "aria-busy": now ? null : "true" });
  }

  function say(answer) {
    if (isOpen) onAnswer(answer);
  }

  function byKey(event) {
    const { key, target, repeat, altKey, ctrlKey, metaKey, shiftKey } = event;
    const choice = CHOICES.find((choice) => choice.key === key);
    if (!choice || !isOpen || repeat || altKey || ctrlKey || metaKey || shiftKey || target.closest?.(TAKES_ARROWS)) return;
    event.preventDefault();
    say(choice.answer);
  }

  document.addEventListener("keydown", byKey);
  return {
    element,
    /** Nothing can be answered, and `words` say why; `isNew` where the answers that are shown are over. */
    busy: (words, { number, asked, isNew }) => {
      setOpen(false);
      status.textContent = words;
      if (!isNew) return;
      heading.textContent = `Question ${number}`;
      prompt.textContent = asked;
      for (const { text } of texts) {
        text.textContent = "";
        set(text, { "aria-busy": "true" });
      }
    },
    show: ({ left, right }, { number, asked }) => {
      heading.textContent = `Question ${number}: which answer is better?`;
      prompt.textContent = asked;
      [left, right].forEach((words, i) => {
        texts[i].text.textContent = words === "" ? "(an empty answer)" : words;
        set(texts[i].text, { "aria-busy": null });
      });
      status.textContent = "The arrow keys answer, too.";
      setOpen(true);
    },
    /** There is nothing to answer. */
    rest: (words = "") => {
      setOpen(false);
      for (const { text } of texts) set(text, { "aria-busy": null });
      set(question, { "aria-busy": null });
      status.textContent = words;
    },
    focus: () => heading.focus(),
    close: () => document.removeEventListener("keydown", byKey),
  };
}
