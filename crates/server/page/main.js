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
/** The address that is shown. Where there is another one, a link was followed, and its event is on the way. */
let here = null;
/** What each view was left with, by its id: a link to it brings that back. */
const states = new Map();
const links = VIEWS.map((view) => h("a", {}, view.title));

function viewOf(state) {
  return VIEWS.find((view) => view.id === state.view) ?? VIEWS[0];
}

function navigate(current) {
  VIEWS.forEach((view, i) => {
    set(links[i], { href: addressOf(view.id, states.get(view.id)), "aria-current": view === current ? "page" : null });
  });
}

/** The address is that of this state; it makes no step to go back. */
function write(view, state) {
  clearTimeout(pending);
  if (location.hash !== here) return;
  const address = addressOf(view.id, state);
  if (address !== here) history.replaceState(null, "", address);
  here = location.hash;
  navigate(view);
}

function show(models) {
  clearTimeout(pending);
  here = location.hash;
  const state = readAddress(here);
  const view = viewOf(state);
  states.set(view.id, state);
  navigate(view);
  if (shown?.view === view) {
    shown.opened.restore(state);
    return;
  }
  shown?.opened.close();
  const own = { view, opened: null };
  shown = own;
  const onState = (state) => {
    // One that was left may hear from the server yet.
    if (shown !== own) return;
    states.set(view.id, state);
    clearTimeout(pending);
    // Otherwise when it rests: browsers refuse an address for every move of a key that is held.
    if (own.opened === null) write(view, state);
    else pending = setTimeout(() => write(view, state), 100);
  };
  own.opened = view.open({ api, models, state, onState });
  main.replaceChildren(own.opened.element);
}

try {
  const models = await api.models();
  document.getElementById("views").append(...links);
  show(models);
  addEventListener("hashchange", () => show(models));
} catch (error) {
  main.replaceChildren(h("p", { class: "notice error", role: "alert" }, `There is nothing to show: ${error.message}`));
}
