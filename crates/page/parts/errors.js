// One standard error of two means at once, which the same records have measured.

/** Of more points in one picture than this only those at the ends and in the centre of λ show their errors. */
const MOST = 24;

/** How the errors of two objectives go together; null where nobody kept it. */
export const correlationOf = ({ correlation }, i, k) => correlation?.[Math.max(i, k)]?.[Math.min(i, k)] ?? null;

/**
 * The ellipse vᵀ C⁻¹ v = 1 of C = [xx, xy; xy, yy]: half its length and width, which are the roots of C's eigenvalues, and the
 * angle from the first axis to its length.
 */
export function ellipseOf(xx, yy, xy) {
  const [middle, half] = [(xx + yy) / 2, Math.hypot((xx - yy) / 2, xy)];
  return {
    long: Math.sqrt(middle + half),
    short: Math.sqrt(Math.max(middle - half, 0)),
    angle: Math.atan2(2 * xy, xx - yy) / 2,
  };
}

/** Whether only some points show their errors. */
export const areChosen = (fronts) => fronts.reduce((sum, { points }) => sum + points.length, 0) > MOST;

/** Which points of a front show their errors in two objectives, where only some do. */
export function chosenPoints({ points }, pair) {
  const least = (of) => points.reduce((best, point) => (of(point) < of(best) ? point : best));
  const ends = pair.map((i) => least(({ lambda }) => -lambda[i]));
  return new Set([...ends, least(({ lambda }) => Math.hypot(...lambda))]);
}

/** What the picture's ellipses or bars mean. */
export function errorsInWords(fronts) {
  const points = fronts.flatMap((front) => front.points);
  if (points.every(({ stderr }) => stderr.every((error) => error === 0))) return "";
  const where = areChosen(fronts) ? ", drawn at the ends and in the centre of λ," : "";
  return points.every(({ correlation }) => correlation)
    ? ` An ellipse${where} is one standard error of both means: as wide and as high as ± 1 on each axis; it would hold 39 % of normal means.`
    : ` A bar${where} is ± 1 standard error.`;
}
