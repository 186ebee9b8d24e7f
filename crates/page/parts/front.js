// What a measured front says of a λ, which may lie between those that were measured.

/** The finest grid of λ that is looked for, in steps along an edge. */
const MOST_DIVISIONS = 100;

/**
 * The values at λ, and where they come from: `measured` at this very λ, `between` the points around it, or those of the
 * `nearest` point. `points` are the measured ones that it takes.
 */
export function readFront(front, lambda) {
  const around = corners(front, lambda);
  if (around && around.length === 1) return of("measured", around);
  if (around) return of("between", around);
  const distance = (point) => point.lambda.reduce((sum, weight, i) => sum + (weight - lambda[i]) ** 2, 0);
  const nearest = front.points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
  return of(distance(nearest) < 1e-6 ? "measured" : "nearest", [{ point: nearest, share: 1 }]);
}

function of(kind, corners) {
  const values = corners[0].point.values.map((_, i) =>
    corners.reduce((sum, { point, share }) => sum + share * point.values[i], 0),
  );
  return { kind, values, points: corners.map(({ point }) => point) };
}

/**
 * The measured points whose λ surround this one, with shares that add up to 1 and bring their λ to this one. Nothing where
 * the λ that were measured are no regular grid, or one of these is missing.
 *
 * The sums λ₁, λ₁ + λ₂, … of a grid of λ are a grid of integers in order, which falls into simplices by the order of the
 * fractional parts (Freudenthal 1942; Kuhn 1960).
 */
function corners(front, lambda) {
  const divisions = divisionsOf(front.points);
  if (!divisions) return null;
  const measured = new Map(front.points.map((point) => [keyOf(point.lambda, divisions), point]));
  const sums = [];
  let sum = 0;
  for (const weight of lambda.slice(0, -1)) {
    sum += weight * divisions;
    sums.push(Math.abs(sum - Math.round(sum)) < 1e-6 ? Math.round(sum) : sum);
  }
  const corner = sums.map(Math.floor);
  const parts = sums.map((value, i) => ({ part: value - corner[i], i }));
  parts.sort((a, b) => b.part - a.part || b.i - a.i);
  const found = [];
  for (let k = 0; k <= parts.length; k += 1) {
    if (k > 0) corner[parts[k - 1].i] += 1;
    const above = k === 0 ? 1 : parts[k - 1].part;
    const below = k === parts.length ? 0 : parts[k].part;
    if (above - below < 1e-9) continue;
    const weights = [...corner, divisions].map((value, i) => (value - (i === 0 ? 0 : corner[i - 1])) / divisions);
    const point = measured.get(keyOf(weights, divisions));
    if (!point) return null;
    found.push({ point, share: above - below });
  }
  return found;
}

/** The steps along an edge of the grid that all of these λ lie on. */
function divisionsOf(points) {
  const isWhole = (value) => Math.abs(value - Math.round(value)) < 1e-6;
  for (let n = 1; n <= MOST_DIVISIONS; n += 1) {
    if (points.every(({ lambda }) => lambda.every((weight) => isWhole(weight * n)))) return n;
  }
  return null;
}

const keyOf = (lambda, divisions) => lambda.map((weight) => Math.round(weight * divisions)).join(" ");

/** The least and the greatest value of an objective among the measured points. */
export function rangeOf(front, objective) {
  const values = front.points.map((point) => point.values[objective]);
  return [Math.min(...values), Math.max(...values)];
}

/** The mean standard error of an objective over the measured points. */
export const errorOf = (front, objective) =>
  front.points.reduce((sum, { stderr }) => sum + stderr[objective], 0) / front.points.length;

/** No axis and no scale of shades is shorter than so many mean standard errors: what differs by chance looks as close as it is. */
const LEAST_IN_ERRORS = 8;

/** A range, widened on both sides where it is small beside the error of its values. */
export function widened([least, greatest], error) {
  const missing = Math.max(0, LEAST_IN_ERRORS * error - (greatest - least), Number.EPSILON * 1e4 * Math.max(Math.abs(least), 1));
  return greatest - least > missing && missing < 1e-9 ? [least, greatest] : [least - missing / 2, greatest + missing / 2];
}

/** From which value to which shades go. */
export const shadeRange = (front, objective) => widened(rangeOf(front, objective), errorOf(front, objective));

/** A value with as many decimals as the least standard error leaves it; without one, as tell the measured values apart. */
export function valueText(front, objective, value) {
  const errors = front.points.map(({ stderr }) => stderr[objective]).filter((error) => error > 0);
  const [least, greatest] = rangeOf(front, objective);
  const unit = errors.length > 0 ? Math.min(...errors) : (greatest - least) / 100;
  const decimals = unit > 0 ? Math.min(Math.max(-Math.floor(Math.log10(unit)), 0), 8) : 3;
  return signed(value.toFixed(decimals));
}

/** A number in digits with a true minus sign, and none before a zero. */
export const signed = (digits) => digits.replace(/^-(0\.?0*)$/, "$1").replace("-", "−");

/** λ as a person writes it. */
export const lambdaText = (lambda) => `(${lambda.map((weight) => Number(weight.toFixed(2))).join(", ")})`;

/** The same by the objectives that weigh anything in it, where the list of all weights would be long. */
export function lambdaInWords(objectives, lambda) {
  if (lambda.length <= 3) return lambdaText(lambda);
  const weight = (value) => `${Number(value.toFixed(2))}`;
  if (lambda.every((value) => Math.abs(value - lambda[0]) < 1e-9)) return `all ${weight(lambda[0])}`;
  return objectives
    .flatMap((name, i) => (lambda[i] > 0 ? [lambda[i] === 1 ? `${name} alone` : `${name} ${weight(lambda[i])}`] : []))
    .join(", ");
}

/** Each objective at a measured point, with its standard error. */
export const estimates = (front, { values, stderr }) =>
  front.objectives.map((objective, i) => `${objective} ${valueText(front, i, values[i])} ± ${valueText(front, i, stderr[i])}`);

/** What was read of a front, in words. */
export function frontInWords(front, reading) {
  const { kind, values, points } = reading;
  const between = () => front.objectives.map((objective, i) => `${objective} ${valueText(front, i, values[i])}`);
  const each = kind === "between" ? between() : estimates(front, points[0]);
  const lambdas = points.map(({ lambda }) => lambdaText(lambda));
  const found = `${each.join(", ")}.`;
  if (kind === "measured") return `Measured at this λ: ${found}`;
  if (kind === "nearest") return `Not measured here. At the nearest measured λ, ${lambdas[0]}: ${found}`;
  const around =
    lambdas.length > 3
      ? `the ${lambdas.length} measured λ around it`
      : `the measured λ ${lambdas.slice(0, -1).join(", ")} and ${lambdas.at(-1)}`;
  return `Not measured here. Interpolated between ${around}: ${found}`;
}
