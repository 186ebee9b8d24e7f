// An axis of a picture: from values to pixels, with round numbers in between.

import { signed, widened } from "./front.js";

/**
 * From values to pixels, and round numbers in between, each with at least `room(text)` pixels. At both ends there is some
 * space; values that differ little beside their `error` stay close together.
 */
export function axis(values, error, from, to, room) {
  let [least, greatest] = widened([Math.min(...values), Math.max(...values)], error);
  const space = Math.max((greatest - least) * 0.06, error);
  [least, greatest] = [least - space, greatest + space];
  const place = (value) => from + ((value - least) / (greatest - least)) * (to - from);
  const power = 10 ** Math.floor(Math.log10(greatest - least) - 2);
  for (const step of [1, 2, 5, 10, 20, 50, 100, 200, 500].map((digits) => digits * power)) {
    const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const ticks = [];
    for (let k = Math.ceil(least / step); k * step <= greatest; k += 1) {
      ticks.push({
        at: place(k * step),
        text: signed((k * step).toFixed(decimals)),
      });
    }
    const pixels = (step / (greatest - least)) * Math.abs(to - from);
    if (ticks.every(({ text }) => pixels >= room(text))) return { place, ticks };
  }
  return { place, ticks: [] };
}
