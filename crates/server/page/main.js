// The page: asks the server what it has, and opens a view of it.

import { Api } from "./api.js";
import { balanceView } from "./balance.js";
import { compareView } from "./compare.js";
import { h, set } from "./dom.js";
import { askForKey } from "./key.js";
import { addressOf, readAddress } from "./url-state.js";

/**
 * What the page can show; the first where the address names none. `open` is given the API, the models, what the address says
 * and `onState`, and gives its element, `restore(state)` and `close()`.
 */
const VIEWS = [
  { id: "compare", title: "Compare", open: compareView },
  { id: "balance", title: "Find my balance", open: balanceView },
];

const main = document.getElementById("main");
const api = new Api((wasWrong) => askForKey(document.getElementById("key"), wasWrong));
let shown = null;
let pending = null;
/** What each view was left with, by its id: a link to it brings that back. */
const states = new Map();
const links = VIEWS.map((view) => h("a", {}, view.title));
document.getElementById("views").append(...links);

function viewOf(state) {
  return VIEWS.find((view) => view.id === state.view) ?? VIEWS[0];
}

function navigate(current) {
  VIEWS.forEach((view, i) => {
    set(links[i], { href: addressOf(view.id, states.get(view.id)), "aria-current": view === current ? "page" : null });
  });
}

/**
 * The address follows the state when that rests, for browsers refuse an address for every move of a key that is held. It makes
 * no steps to go back.
 */
function remember(view, state) {
  states.set(view.id, state);
  clearTimeout(pending);
  pending = setTimeout(() => {
    const address = addressOf(view.id, state);
    if (address !== location.hash) history.replaceState(null, "", address);
    navigate(view);
  }, 100);
}

function show(models) {
  clearTimeout(pending);
  const state = readAddress(location.hash);
  const view = viewOf(state);
  states.set(view.id, state);
  navigate(view);
  if (shown?.view === view) {
    shown.opened.restore(state);
    return;
  }
  shown?.opened.close();
  const onState = (state) => remember(view, state);
  shown = { view, opened: view.open({ api, models, state, onState }) };
  main.replaceChildren(shown.opened.element);
}

try {
  const models = await api.models();
  show(models);
  addEventListener("hashchange", () => show(models));
} catch (error) {
  main.replaceChildren(h("p", { class: "notice error", role: "alert" }, `There is nothing to show: ${error.message}`));
}
