// A control for λ: a slider for two objectives, a triangle for three, a slider each for more. Numbers can be typed, too.

import { freshId, h, set, svg } from "./dom.js";
import { lambdaAt, placeOf, trianglePicture } from "./triangle.js";
import { inWords, onGrid, shown, uniform, withWeight } from "./weights.js";

/** Steps of a slider from 0 to 1. */
const STEPS = 100;

/**
 * `label` says whose λ it is. `onInput(weights)` is called at every move, `onChange(weights)` when it has come to rest.
 * Gives the element, and `set(weights)`, which calls neither.
 */
export function weightControl({ objectives, weights, label, onInput = () => {}, onChange = () => {} }) {
  let now = weights;
  // Proportions are kept to where a move began, so that a slider that goes to its end and back changes nothing.
  let settled = weights;
  const show = (moved) => {
    now = moved;
    for (const part of parts) part.show(now);
  };
  const input = (moved) => {
    show(moved);
    onInput(now);
  };
  const change = () => {
    settled = now;
    onChange(now);
  };
  const control = { objectives, label, input, change, now: () => now, settled: () => settled };
  const m = objectives.length;
  const parts = m === 1 ? [] : m === 2 ? [slider(control)] : m === 3 ? [triangle(control)] : [];
  const rows = objectives.map((_, index) => row(control, index, m > 3));
  parts.push(...rows);
  const numbers = h("div", { class: m === 2 ? "weight-ends" : "weight-rows" }, ...rows.map((part) => part.element));
  const element = h(
    "fieldset",
    { class: "weights" },
    h("legend", {}, label),
    ...parts.slice(0, -m).map((part) => part.element),
    numbers,
  );
  show(weights);
  const place = (weights) => {
    settled = weights;
    show(weights);
  };
  return { element, set: place };
}

/** From the first objective, on the left, to the second. */
function slider({ objectives, label, input, change }) {
  const element = h("input", {
    type: "range",
    class: "two-ends",
    min: 0,
    max: STEPS,
    step: 1,
    "aria-label": `${label}, from ${objectives[0]} to ${objectives[1]}`,
    on: {
      input: () => {
        const second = Number(element.value) / STEPS;
        input([1 - second, second]);
      },
      change,
    },
  });
  return {
    element,
    show: (weights) => {
      element.value = Math.round(weights[1] * STEPS);
      set(element, { "aria-valuetext": inWords(objectives, weights) });
    },
  };
}

/** An objective by its number, with a slider of its own where there are many. */
function row({ objectives, label, input, change, settled }, index, withSlider) {
  const name = freshId("objective");
  const moveTo = (value) => input(withWeight(settled(), index, value));
  const number = h("input", {
    type: "number",
    min: 0,
    max: 1,
    step: 0.01,
    inputmode: "decimal",
    "aria-label": `${objectives[index]}, ${label}`,
    on: {
      change: () => {
        // What is no number changes nothing, and shows what holds.
        const typed = number.valueAsNumber;
        moveTo(Number.isFinite(typed) ? typed : settled()[index]);
        change();
      },
    },
  });
  const range = withSlider
    ? h("input", {
        type: "range",
        min: 0,
        max: STEPS,
        step: 1,
        "aria-labelledby": name,
        on: { input: () => moveTo(Number(range.value) / STEPS), change },
      })
    : null;
  return {
    element: h("div", { class: "weight-row" }, h("span", { id: name, class: "objective" }, objectives[index]), range, number),
    show: (weights) => {
      number.value = shown(weights[index]);
      if (!range) return;
      range.value = Math.round(weights[index] * STEPS);
      set(range, { "aria-valuetext": shown(weights[index]) });
    },
  };
}

/** A point to drag: the nearer a corner, the more its objective counts. */
function triangle({ objectives, label, input, change, now, settled }) {
  const knob = svg("circle", { class: "knob", r: 9 });
  const handle = svg(
    "g",
    {
      role: "slider",
      tabindex: 0,
      class: "handle",
      "aria-label": `${label}, a point between ${objectives.join(", ")}`,
      "aria-roledescription": "point in a triangle",
      "aria-valuemin": 0,
      "aria-valuemax": 1,
    },
    svg("circle", { class: "ring", r: 14 }),
    knob,
  );
  const picture = trianglePicture(objectives);
  picture.append(handle);
  let dragged = null;
  const follow = (event) => {
    const box = picture.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width;
    const down = (event.clientY - box.top) / box.height;
    input(onGrid(lambdaAt(across, down), STEPS));
  };
  picture.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    dragged = event.pointerId;
    picture.setPointerCapture(dragged);
    handle.focus();
    follow(event);
  });
  picture.addEventListener("pointermove", (event) => event.pointerId === dragged && follow(event));
  const drop = (event) => {
    if (event.pointerId !== dragged) return;
    dragged = null;
    change();
  };
  picture.addEventListener("pointerup", drop);
  picture.addEventListener("pointercancel", drop);
  handle.addEventListener("keydown", (event) => {
    const moved = byKey(event, now(), settled());
    if (!moved) return;
    event.preventDefault();
    input(moved);
    change();
  });
  return {
    element: picture,
    show: (weights) => {
      const [x, y] = placeOf(weights);
      set(handle, {
        transform: `translate(${x} ${y})`,
        "aria-valuenow": shown(weights[0]),
        "aria-valuetext": inWords(objectives, weights),
      });
    },
  };
}

/** Up and down towards the upper corner and away from it, left and right along the base; with Shift ten times as far. */
function byKey({ key, shiftKey }, now, settled) {
  const step = (shiftKey || key.startsWith("Page") ? 10 : 1) / STEPS;
  const along = (wanted) => {
    const part = Math.max(-now[2], Math.min(now[1], wanted));
    return [now[0], now[1] - part, now[2] + part];
  };
  switch (key) {
    case "ArrowUp":
    case "PageUp":
      return onGrid(withWeight(settled, 0, now[0] + step), STEPS);
    case "ArrowDown":
    case "PageDown":
      return onGrid(withWeight(settled, 0, now[0] - step), STEPS);
    case "ArrowLeft":
      return onGrid(along(-step), STEPS);
    case "ArrowRight":
      return onGrid(along(step), STEPS);
    case "Home":
      return uniform(3);
    default:
      return null;
  }
}
