// What the page shows, as the part of its address behind `#`: a link brings it back.
//
//     #prompt=how+do+birds+fly%3F&answer=first@0.2,0.8&answer=base&temperature=0.7&max_tokens=256&seed=1
//     #view=balance&model=first&profile=anna&prompts=how+do+birds+fly%3F%0Awhy%3F&temperature=0.7&seed=&candidates=20

import { rounded } from "./weights.js";

/** What a request may say of how answers are drawn. */
const SAMPLING = ["temperature", "max_tokens", "seed", "candidates"];
/** The view of an address that names none. */
const USUAL_VIEW = "compare";

/**
 * What an address says: `view`; `prompt` and `answers` (each a model and, where it has any, weights) of the view "compare";
 * `model`, `profile` and `prompts` (one a line) of "balance"; and `sampling`, which holds those settings that are there.
 * Nothing is checked against what the server has.
 */
export function readAddress(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const sampling = {};
  for (const name of SAMPLING) {
    const text = found.get(name);
    if (text !== null && Number.isFinite(Number(text))) sampling[name] = text === "" ? null : Number(text);
  }
  return {
    view: found.get("view"),
    prompt: found.get("prompt") ?? "",
    answers: found.getAll("answer").map(readAnswer),
    model: found.get("model"),
    profile: found.get("profile") ?? "",
    prompts: found.get("prompts") ?? "",
    sampling,
  };
}

/** `first@0.2,0.8` */
function readAnswer(text) {
  const at = text.lastIndexOf("@");
  const weights = text
    .slice(at + 1)
    .split(",")
    .map(Number);
  const areWeights = at >= 0 && weights.every((weight) => Number.isFinite(weight) && weight >= 0);
  return areWeights ? { model: text.slice(0, at), weights } : { model: text, weights: null };
}

/** The address of a view in this state; without one, of the view as it begins. */
export function addressOf(view, state = {}) {
  const { answers = [], sampling = {} } = state;
  const parts = new URLSearchParams();
  if (view !== USUAL_VIEW) parts.set("view", view);
  for (const name of ["model", "profile", "prompts", "prompt"]) {
    if (state[name]) parts.set(name, state[name]);
  }
  for (const { model, weights } of answers) {
    parts.append("answer", weights ? `${model}@${weights.map(rounded).join(",")}` : model);
  }
  for (const name of SAMPLING) {
    if (name in sampling) parts.set(name, sampling[name] ?? "");
  }
  // As people write them.
  return `#${parts.toString().replaceAll("%40", "@").replaceAll("%2C", ",")}`;
}
