// front.html: the front of a report, to look into. Its data stand in the page, and so does what is seen without a script.

import { h, set, svg } from "./dom.js";
import { frontInWords, lambdaInWords, readFront } from "./front.js";
import { captionOf, frontPlot } from "./front-plot.js";
import { heatMap } from "./heat-map.js";
import { heatTriangles } from "./heat-triangles.js";
import { pointShape, seriesOf } from "./marker.js";
import { weightControl } from "./weight-control.js";
import { isSame, uniform } from "./weights.js";

const { front, samples } = JSON.parse(document.getElementById("data").textContent);
const { objectives, methods, exact } = front;
const m = objectives.length;
/** Each method as a front of its own, as the server tells one. */
const fronts = methods.map(({ method, points }) => ({
  objectives,
  method,
  points: points.map((point) => ({ ...point, exact: point.exact?.values ?? null })),
  exact: exact?.values ?? null,
}));

const shownMethods = new Set(fronts.keys());
const marks = [];
/** The mark that a click on a point moves. */
let chosen = 0;

const plot = frontPlot(fronts, {
  tallest: m === 2 ? 460 : 300,
  // On a phone they would stand one below the other, and the marks a long way down.
  areOpen: matchMedia("(min-width: 64rem)").matches,
  onPick: ({ index, point }) => marks[chosen].moveTo(index, point.lambda),
});
const heatOf = m === 3 ? heatTriangles : m > 3 ? heatMap : null;
const heat = heatOf?.(objectives, {
  onPick: (point) => {
    plot.keep({ index: marks[chosen].state().index, point });
    marks[chosen].moveTo(null, point.lambda);
  },
});
const heatTitle = h("h2");
const answers = samples.length > 0 ? answersPanel() : null;
const markList = h("div", { class: "marks" });
const whichMoves = h("fieldset", { class: "which row", hidden: true });
const more = h("button", { type: "button", class: "quiet", on: { click: () => addOrRemove() } });

/** Of one mark: whose front it is on, its λ, and what the front says there. */
function mark(letter, place, start) {
  let index = 0;
  let weights = start;
  const label = `λ of ${letter}`;
  const reading = h("p", { class: "reading" });
  const control = weightControl({
    objectives,
    weights,
    label,
    onInput: (moved) => {
      weights = moved;
      show();
    },
  });
  const method = h(
    "select",
    {
      "aria-label": `Method of ${letter}`,
      on: {
        change: () => {
          index = Number(method.value);
          own.moveTo(index, weights);
        },
      },
    },
    ...fronts.map(({ method }, k) => h("option", { value: k }, method)),
  );
  const measured = h("select", {
    "aria-label": `Measured λ of ${letter}`,
    on: {
      change: () => {
        if (measured.value === "") return own.show();
        own.moveTo(index, known()[Number(measured.value)].lambda);
      },
    },
  });
  /** The λ that were measured, and those that answers were written under. */
  const known = () => {
    const measured = fronts[index].points.map(({ lambda }) => ({ lambda, note: "" }));
    for (const lambda of answeredBy(fronts[index].method)) {
      const there = measured.find((other) => isSame(other.lambda, lambda));
      if (there) there.note = ", with answers";
      else measured.push({ lambda, note: ", answers only" });
    }
    return measured;
  };
  function list() {
    method.value = index;
    measured.replaceChildren(
      h("option", { value: "" }, "none of these"),
      ...known().map(({ lambda, note }, k) => h("option", { value: k }, `${lambdaInWords(objectives, lambda)}${note}`)),
    );
  }
  const own = {
    letter,
    // Where methods have the colours, marks have none.
    series: fronts.length > 1 ? "none" : place,
    shape: place,
    element: h(
      "section",
      { class: `answer series-${fronts.length > 1 ? "none" : place}`, "aria-label": `Mark ${letter}` },
      h(
        "header",
        {},
        h("span", { class: `badge shape-${place}`, "aria-hidden": "true" }, letter),
        fronts.length > 1 ? method : h("span", { class: "objective" }, fronts[0].method),
      ),
      h(
        "div",
        { class: "steering" },
        m > 1 ? control.element : null,
        h("label", { class: "measured-at" }, h("span", {}, "Measured λ"), measured),
        reading,
      ),
    ),
    state: () => ({ index, weights, reading: readFront(fronts[index], weights) }),
    /** To a λ on the front of a method; `null` is the one that it is on. */
    moveTo: (to, lambda) => {
      index = to ?? index;
      weights = lambda;
      control.set(weights);
      list();
      show();
    },
    show: () => {
      const at = known().findIndex(({ lambda }) => isSame(lambda, weights));
      measured.value = at < 0 ? "" : at;
      reading.textContent = frontInWords(fronts[index], own.state().reading);
    },
  };
  list();
  return own;
}

/** The λ that a method has answers under. */
function answeredBy(method) {
  const found = [];
  for (const { answers } of samples) {
    for (const answer of answers) {
      if (answer.method === method && !found.some((lambda) => isSame(lambda, answer.lambda))) found.push(answer.lambda);
    }
  }
  return found;
}

/** The answers to one prompt under the λ of each mark. */
function answersPanel() {
  let prompt = 0;
  const asked = h("p", { class: "asked" });
  const panes = h("div", { class: "answers" });
  const buttons = samples.map((sample, k) =>
    h("button", { type: "button", class: "quiet", title: sample.prompt, on: { click: () => choose(k) } }, `${k + 1}`),
  );
  const choose = (k) => {
    prompt = k;
    show();
  };
  return {
    element: h(
      "section",
      { class: "sample-answers", "aria-label": "Sample answers" },
      h("h2", {}, "Sample answers"),
      h("div", { class: "row prompts", role: "group", "aria-label": "Prompt" }, h("span", { class: "note" }, "Prompt"), ...buttons),
      asked,
      panes,
    ),
    show: () => {
      buttons.forEach((button, k) => set(button, { "aria-pressed": k === prompt ? "true" : "false" }));
      asked.textContent = samples[prompt].prompt;
      while (panes.children.length > marks.length) panes.lastChild.remove();
      marks.forEach((mark, k) => {
        if (!panes.children[k]) panes.append(pane(mark));
        const [said, text] = panes.children[k].querySelectorAll(".label, .text");
        const { words, answer } = answerAt(samples[prompt], mark.state());
        // What is the same stays, or it would be read out once more.
        if (said.textContent !== words) said.textContent = words;
        if (text.textContent !== answer) text.textContent = answer;
      });
    },
  };
}

const pane = ({ letter, series, shape }) =>
  h(
    "article",
    { class: `answer series-${series}`, "aria-label": `Answer at ${letter}` },
    h("header", {}, h("span", { class: `badge shape-${shape}`, "aria-hidden": "true" }, letter)),
    h("div", { class: "written" }, h("p", { class: "label", "aria-live": "polite" }), h("div", { class: "text" })),
  );

/** The answer under this λ or, where nobody wrote one, under the nearest. */
function answerAt({ answers }, { index, weights }) {
  const { method } = fronts[index];
  const own = answers.filter((answer) => answer.method === method);
  if (own.length === 0) return { words: `No answers of ${method} were written.`, answer: "" };
  const distance = ({ lambda }) => lambda.reduce((sum, weight, i) => sum + (weight - weights[i]) ** 2, 0);
  const nearest = own.reduce((best, answer) => (distance(answer) < distance(best) ? answer : best));
  const tokens = `${nearest.tokens} ${nearest.tokens === 1 ? "token" : "tokens"}`;
  const at = `λ = ${lambdaInWords(objectives, nearest.lambda)}`;
  const words = isSame(nearest.lambda, weights)
    ? `${method} at ${at}, ${tokens}`
    : `No answer was written at this λ. ${method} at the nearest that has one, ${at}, ${tokens}`;
  return { words, answer: nearest.text === "" ? "(an empty answer)" : nearest.text };
}

/** Which methods are seen. */
function switches() {
  const boxes = fronts.map(({ method }, k) => {
    const box = h("input", {
      type: "checkbox",
      checked: true,
      on: {
        change: () => {
          if (box.checked) shownMethods.add(k);
          else shownMethods.delete(k);
          plot.show([...shownMethods].sort((a, b) => a - b));
          show();
        },
      },
    });
    const sample = svg("svg", { class: "sample", viewBox: "-8 -8 16 16", "aria-hidden": "true" }, pointShape({ series: k }, 0, 0));
    return h("label", { class: `switch series-${seriesOf(k)}` }, box, sample, method);
  });
  return h("fieldset", { class: "methods row" }, h("legend", {}, "Methods"), ...boxes);
}

/** Everything that follows the marks. */
function show() {
  for (const mark of marks) mark.show();
  const states = marks.map((mark) => ({ ...mark, ...mark.state() }));
  plot.mark(
    states
      .filter(({ index }) => shownMethods.has(index))
      .map(({ letter, series, shape, index, weights, reading }) => ({
        letter,
        series,
        shape,
        index,
        weights,
        values: reading.values,
        isMeasured: reading.kind === "measured",
      })),
  );
  if (heat) {
    const { index } = states[chosen];
    set(heatTitle.parentElement, { hidden: !shownMethods.has(index) });
    heatTitle.textContent = fronts.length > 1 ? `Over all λ: ${fronts[index].method}` : "Over all λ";
    heat.show(
      fronts[index],
      states
        .filter((state) => state.index === index)
        .map(({ letter, series, shape, weights, reading }) => ({
          letter,
          series,
          shape,
          weights,
          isMeasured: reading.kind === "measured",
        })),
    );
  }
  answers?.show();
}

function add(weights) {
  const place = marks.length;
  const added = mark(String.fromCharCode(65 + place), place, weights);
  marks.push(added);
  markList.append(added.element);
  // Whoever takes hold of a mark means it.
  for (const event of ["pointerdown", "focusin", "change"]) added.element.addEventListener(event, () => choose(place));
}

function choose(place) {
  if (place === chosen) return;
  chosen = place;
  for (const [k, radio] of whichMoves.querySelectorAll("input").entries()) radio.checked = k === chosen;
  show();
}

/** After a mark has come or gone. */
function showChoice() {
  whichMoves.replaceChildren(
    h("legend", {}, "A click on a point moves"),
    ...marks.map(({ letter }, place) => {
      const radio = h("input", { type: "radio", name: "chosen", checked: place === chosen, on: { change: () => choose(place) } });
      return h("label", {}, radio, ` ${letter}`);
    }),
  );
  set(whichMoves, { hidden: marks.length < 2 });
  set(more, { hidden: m === 1 && fronts.length === 1 });
  more.textContent = marks.length < 2 ? "Compare with another λ" : "Remove B";
}

function addOrRemove() {
  if (marks.length < 2) add(marks[0].state().weights);
  else marks.pop().element.remove();
  chosen = marks.length - 1;
  showChoice();
  show();
}

function build() {
  const vertex = (i) => objectives.map((_, k) => (k === i ? 1 : 0));
  // Where there are answers, the ends tell most.
  const starts = samples.length > 0 && m > 1 ? [vertex(0), vertex(1)] : [uniform(m)];
  for (const start of starts) add(start);
  showChoice();
  const picture = document.getElementById("picture");
  document.getElementById("front").append(
    h(
      "div",
      { class: "beside" },
      h(
        "div",
        { class: "seen" },
        fronts.length > 1 ? switches() : null,
        plot.element,
        h("p", { class: "note" }, captionOf(fronts)),
        heat ? h("section", {}, heatTitle, heat.element) : null,
      ),
      h("aside", { "aria-label": "Marks" }, markList, h("div", { class: "row" }, whichMoves, more)),
      answers?.element,
    ),
  );
  // Of two objectives it would be the same once more.
  if (m === 2) picture.remove();
  else {
    const again = h("details", {}, h("summary", {}, "All methods and objectives in one picture"));
    picture.before(again);
    again.append(picture);
  }
  show();
}

build();
