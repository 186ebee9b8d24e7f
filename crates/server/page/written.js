// An answer as it is written: under which λ, its words, how it ended, and its request as a command.

import { CHAT } from "./api.js";
import { asCurl } from "./curl.js";
import { h, set } from "./dom.js";
import { inWords } from "./weights.js";

/** `name` says whose answer it is, where that is not seen; `note` is shown below it. */
export function writtenAnswer({ name, note = null }) {
  // What was asked, and the λ that the server wrote it under.
  let sent = null;
  let described = null;

  const label = h("p", { class: "label" });
  // A screen reader waits with a busy region, and reads it when it is whole.
  const text = h("div", { class: "text", "aria-live": "polite", "aria-atomic": "true" });
  const outcome = h("p", { class: "note" });
  const problem = h("p", { class: "error", role: "alert", hidden: true });
  const copied = h("span", { class: "note", role: "status" });
  const command = h("pre", { class: "curl", tabindex: 0, hidden: true, "aria-label": `${name} as a curl command` });
  const copy = h("button", { type: "button", class: "quiet", on: { click: () => copyCommand() } }, "Copy as curl");
  const tools = h("div", { class: "row", hidden: true }, copy, copied);
  const element = h("div", { class: "written" }, label, text, outcome, problem, note, tools, command);

  function describe(preference) {
    const under = preference
      ? `under ${inWords(Object.keys(preference), Object.values(preference))}`
      : "steered by no preference";
    if (under === described) return;
    described = under;
    label.replaceChildren(h("strong", {}, sent.body.model), ` ${under}`);
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

  /**
   * Sends `body`, streamed, and shows the answer as it comes; `preference` is what it is thought to be written under until the
   * server says it. Gives `whole`, `stopped` or `failed`.
   */
  async function ask({ api, body: asked, preference, signal }) {
    const body = { ...asked, stream: true, stream_options: { include_usage: true } };
    sent = { body, hasKey: api.hasKey };
    described = null;
    describe(preference);
    const words = document.createTextNode("");
    text.replaceChildren(words);
    for (const part of [outcome, copied]) part.textContent = "";
    for (const part of [problem, command]) set(part, { hidden: true });
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

  return { element, ask };
}
