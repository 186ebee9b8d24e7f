// What is believed of a person's λ, as a picture: a shade along a line for two objectives, points in a triangle for three.

import { h, set, svg } from "./dom.js";
import { placeOf, trianglePicture } from "./triangle.js";

/** Where the shade of two objectives is computed, and how far each point of the region blurs. */
const PLACES = 120;
const BLUR = 0.03;

/**
 * Gives the element, and `show(profile)` as the API tells it; nothing for more than three objectives, which no plane shows.
 * `inWords(profile)` says what it shows.
 */
export function beliefPicture({ objectives, inWords }) {
  const picture = objectives.length === 2 ? strip(objectives) : objectives.length === 3 ? triangle(objectives) : null;
  if (!picture) return null;
  set(picture.element, { role: "img" });
  return {
    element: h("figure", { class: "belief" }, picture.element, picture.ends ?? null, legend()),
    show: (profile) => {
      const lambda = (weights) => objectives.map((name) => weights[name]);
      picture.show(profile.region, lambda(profile.estimate), lambda(profile.preference));
      set(picture.element, { "aria-label": inWords(profile) });
    },
  };
}

function legend() {
  const sample = (shape) => svg("svg", { class: "sample", viewBox: "-8 -8 16 16", "aria-hidden": "true" }, shape);
  return h(
    "figcaption",
    { class: "note" },
    h("span", {}, sample(svg("circle", { class: "estimate", r: 5 })), " what you are thought to want"),
    h("span", {}, sample(diamond()), " what is served"),
    h("span", {}, sample(svg("rect", { class: "shade", x: -8, y: -5, width: 16, height: 10 })), " 90 % of the belief"),
  );
}

const diamond = () => svg("polygon", { class: "served", points: "0,-6.5 6.5,0 0,6.5 -6.5,0" });

/** From the first objective, on the left, to the second, as its slider has them. */
function strip(objectives) {
  const shade = svg("path", { class: "shade" });
  const [estimate, served] = [svg("svg", { overflow: "visible", y: 56 }), svg("svg", { overflow: "visible", y: 72 })];
  estimate.append(svg("circle", { class: "estimate", r: 6 }));
  served.append(diamond());
  const element = svg(
    "svg",
    { class: "strip", height: 80, width: "100%", overflow: "visible" },
    svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", width: "100%", height: 50, y: 6 }, shade),
    svg("line", { class: "track", x1: "0%", x2: "100%", y1: 56, y2: 56 }),
    svg("line", { class: "track", x1: "50%", x2: "50%", y1: 51, y2: 61 }),
    served,
    estimate,
  );
  return {
    element,
    ends: h("div", { class: "ends", "aria-hidden": "true" }, ...objectives.map((name) => h("span", {}, name))),
    show: (region, estimated, preference) => {
      set(shade, { d: shadeOf(region.map(([, second]) => second)) });
      set(estimate, { x: `${100 * estimated[1]}%` });
      set(served, { x: `${100 * preference[1]}%` });
    },
  };
}

/** How dense numbers between 0 and 1 lie, as an area under a curve. */
function shadeOf(numbers) {
  const places = Array.from({ length: PLACES + 1 }, (_, k) => k / PLACES);
  // What blurs over an end comes back from it.
  const near = (place, number) => [number, -number, 2 - number].reduce((sum, at) => sum + bell((place - at) / BLUR), 0);
  const density = places.map((place) => numbers.reduce((sum, number) => sum + near(place, number), 0));
  const most = Math.max(...density);
  const curve = places.map((place, k) => `L${place.toFixed(4)} ${(1 - density[k] / most).toFixed(4)}`);
  return `M0 1${curve.join("")}L1 1Z`;
}

const bell = (z) => Math.exp(-0.5 * z * z);

function triangle(objectives) {
  const [cloud, estimate, served] = [svg("g"), svg("circle", { class: "estimate", r: 5.5 }), diamond()];
  const element = trianglePicture(objectives);
  element.classList.add("still");
  element.append(cloud, served, estimate);
  const at = (weights) =>
    `translate(${placeOf(weights)
      .map((place) => place.toFixed(2))
      .join(" ")})`;
  return {
    element,
    show: (region, estimated, preference) => {
      cloud.replaceChildren(...region.map((weights) => svg("circle", { class: "guess", r: 2, transform: at(weights) })));
      set(estimate, { transform: at(estimated) });
      set(served, { transform: at(preference) });
    },
  };
}
