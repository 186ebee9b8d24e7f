"use strict";
const samples = JSON.parse(document.getElementById("sample-data").textContent);
const element = (id) => document.getElementById(id);
const prompts = element("prompts");
let shown = 0;

function showAnswer(side) {
  const answers = samples[shown].answers;
  const answer = answers[Number(element(side + "-choice").value)];
  element(side + "-label").textContent = answer ? `${answer.label} (${answer.tokens} tokens)` : "none";
  element(side + "-text").textContent = answer ? answer.text : "";
}

function showPrompt(position) {
  shown = position;
  element("prompt").textContent = samples[position].prompt;
  prompts.querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-pressed", i === position));
  const last = Math.max(samples[position].answers.length - 1, 0);
  for (const side of ["left", "right"]) {
    element(side + "-choice").max = last;
    showAnswer(side);
  }
}

samples.forEach((_, position) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = position + 1;
  button.addEventListener("click", () => showPrompt(position));
  prompts.append(button);
});
for (const side of ["left", "right"]) {
  element(side + "-choice").addEventListener("input", () => showAnswer(side));
}
element("samples").hidden = false;
element("right-choice").max = Math.max(samples[0].answers.length - 1, 0);
element("left-choice").value = 0;
element("right-choice").value = element("right-choice").max;
showPrompt(0);
