// Preferences λ: weights on objectives that are at least 0 and add up to 1.

export const uniform = (m) => Array(m).fill(1 / m);

/** Divided by their sum; all alike where that is 0. */
export function normalised(weights) {
  const sum = weights.reduce((a, b) => a + b, 0);
  return sum > 0 ? weights.map((weight) => weight / sum) : uniform(weights.length);
}

/** λ with one weight set anew; the others keep their proportions, and are alike where all of them were 0. */
export function withWeight(weights, index, value) {
  const own = weights.length === 1 ? 1 : Math.min(Math.max(value, 0), 1);
  const others = normalised(weights.filter((_, i) => i !== index)).map((weight) => weight * (1 - own));
  return [...others.slice(0, index), own, ...others.slice(index)];
}

/** The nearest λ whose weights are multiples of 1 / `parts`. */
export function onGrid(weights, parts) {
  const scaled = weights.map((weight) => weight * parts);
  const whole = scaled.map((weight) => Math.floor(weight + 1e-9));
  const order = scaled.map((weight, i) => [weight - whole[i], i]).sort((a, b) => b[0] - a[0]);
  const missing = parts - whole.reduce((a, b) => a + b, 0);
  for (const [, i] of order.slice(0, missing)) whole[i] += 1;
  return whole.map((weight) => weight / parts);
}

/** As it goes into a request or an address, which divide by the sum once more. */
export const rounded = (weight) => Number(weight.toFixed(4));

/** As a person reads it. */
export const shown = (weight) => weight.toFixed(2);

/** `brevity 0.20, detail 0.80` */
export const inWords = (objectives, weights) =>
  objectives.map((objective, i) => `${objective} ${shown(weights[i])}`).join(", ");

export const isSame = (a, b) => a.length === b.length && a.every((weight, i) => Math.abs(weight - b[i]) < 1e-3);
