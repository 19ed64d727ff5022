// The polynomial nearest to exp in relative error on [-bound, bound], and a proved bound on that error: the algorithms of
// flowgression.ops.lowrank (minimax.py, supremum.py) in float64. A test compares the two.

const UNIT = 2 ** -53;
const INTERVALS = 2 ** 14;
const ROUNDS = 60;
const FLOOR = 1e-14;
export const SLACK = 2 ** -17; // what float32 makes of unit vectors
const cache = new Map();

/** {coefficients, eps} for an even degree >= 2 and a bound in (0, 12]: |P(x) exp(-x) - 1| <= eps on the interval. */
export function minimaxExp(degree, bound) {
  const key = `${degree},${bound}`;
  if (!cache.has(key)) cache.set(key, find(degree, bound));
  return cache.get(key);
}

function find(degree, bound) {
  if (!Number.isInteger(degree) || degree < 2 || degree % 2) throw new RangeError(`degree ${degree}: expected even, >= 2`);
  if (!(bound > 0 && bound <= 12)) throw new RangeError(`bound ${bound}: expected a number in (0, 12]`);
  const coefficients = remez(degree, bound).map((c, j) => c / bound ** j);
  return { coefficients, eps: largestRelativeError(coefficients, bound * (1 + SLACK)) };
}

/** Coefficients in y = x / bound of the best polynomial that the exchange meets. */
function remez(degree, bound) {
  let nodes = Array.from({ length: degree + 2 }, (_, k) => -Math.cos((Math.PI * k) / (degree + 1)));
  let best = null, least = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const [scaled, levelled] = interpolate(nodes, degree, bound);
    nodes = extrema(scaled, bound);
    const eps = Math.max(...[...nodes, ...grid(4000)].map((y) => Math.abs(horner(scaled, y) * Math.exp(-bound * y) - 1)));
    if (eps < least) [best, least] = [scaled, eps];
    if (eps - levelled <= 1e-6 * eps + FLOOR || nodes.length < degree + 2) break;
  }
  return best;
}

const grid = (count) => Array.from({ length: count + 1 }, (_, k) => (2 * k) / count - 1);

/** The polynomial whose relative error is +-E with alternating signs at the nodes, and |E|. */
function interpolate(nodes, degree, bound) {
  const rows = nodes.map((y, k) => {
    const angle = Math.acos(Math.min(Math.max(y, -1), 1)), decay = Math.exp(-bound * y);
    const chebyshev = Array.from({ length: degree + 1 }, (_, j) => Math.cos(angle * j) * decay);
    return [...chebyshev, k % 2 ? -1 : 1, 1];
  });
  const solution = solve(rows);
  return [toMonomials(solution.slice(0, -1)), Math.abs(solution.at(-1))];
}

/** Gaussian elimination with pivots; the last column is the right-hand side. */
function solve(rows) {
  const size = rows.length;
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let row = column + 1; row < size; row++) if (Math.abs(rows[row][column]) > Math.abs(rows[pivot][column])) pivot = row;
    [rows[column], rows[pivot]] = [rows[pivot], rows[column]];
    for (let row = column + 1; row < size; row++) {
      const factor = rows[row][column] / rows[column][column];
      for (let k = column; k <= size; k++) rows[row][k] -= factor * rows[column][k];
    }
  }
  const x = new Array(size);
  for (let row = size - 1; row >= 0; row--) {
    let value = rows[row][size];
    for (let k = row + 1; k < size; k++) value -= rows[row][k] * x[k];
    x[row] = value / rows[row][row];
  }
  return x;
}

function toMonomials(c) {
  let before = new Array(c.length).fill(0), current = c.map((_, j) => (j ? 0 : 1));
  let total = current.map((value) => value * c[0]);
  for (let j = 1; j < c.length; j++) {
    const next = current.map((_, k) => (k ? (j > 1 ? 2 : 1) * current[k - 1] : 0) - before[k]);
    [before, current] = [current, next];
    total = total.map((value, k) => value + c[j] * current[k]);
  }
  return total;
}

/** The ends of [-1, 1] and, between them, the zeros of P' - bound P in y: where P(x) exp(-x) - 1 is extreme. */
function extrema(scaled, bound) {
  const slope = scaled.map((c, j) => (j + 1 < scaled.length ? ((j + 1) * scaled[j + 1]) / bound : 0) - c);
  const f = (y) => horner(slope, y), points = grid(4096), found = [-1];
  for (let k = 0; k + 1 < points.length; k++) {
    let [low, high] = [points[k], points[k + 1]];
    if (Math.sign(f(low)) === Math.sign(f(high))) continue;
    for (let step = 0; step < 60; step++) {
      const middle = (low + high) / 2;
      Math.sign(f(middle)) === Math.sign(f(low)) ? (low = middle) : (high = middle);
    }
    found.push((low + high) / 2);
  }
  return [...found, 1];
}

/** sum_j coefficients[j] x^j */
export function horner(coefficients, x) {
  let value = 0;
  for (let j = coefficients.length - 1; j >= 0; j--) value = value * x + coefficients[j];
  return value;
}

// ---- the proved bound: values on a grid, and what may lie between its points ----

const gamma = (n) => (n * UNIT) / (1 - n * UNIT);

/** An upper bound on |P(x) exp(-x) - 1| over [-bound, bound]. */
export function largestRelativeError(coefficients, bound) {
  const points = Float64Array.from({ length: INTERVALS + 1 }, (_, k) => bound * ((2 * k) / INTERVALS - 1));
  const spread = ((2 * bound) / INTERVALS) * (1 + gamma(16));
  const absolute = coefficients.map(Math.abs), terms = coefficients.length;
  const atPoints = points.map((x) => {
    const decay = Math.exp(-x), value = compensated(coefficients, x);
    const lost = gamma(2 * terms) ** 2 * horner(absolute, Math.abs(x)) + gamma(16) * Math.abs(value);
    return Math.abs(value * decay - 1) + lost * decay * (1 + 4 * UNIT) + 8 * UNIT;
  });
  return between(atPoints, onIntervals(secondDerivative(coefficients), points, spread, 3), spread).reduce((a, b) => Math.max(a, b), 0);
}

/** Bounds on |Q(x) exp(-x)| over every interval. */
function onIntervals(q, points, spread, levels) {
  // Coefficients of Q are sums of a few products that float64 rounded: a margin of 64 units of their parts covers them.
  const absolute = q.value.map((c, j) => Math.abs(c) + gamma(64) * q.parts[j]);
  const crude = points.map((x) => horner(absolute, Math.abs(x)) * (1 + gamma(2 * absolute.length)));
  const decay = (x) => Math.exp(-x) * (1 + 4 * UNIT);
  if (!levels) return Float64Array.from({ length: INTERVALS }, (_, k) => Math.max(crude[k], crude[k + 1]) * decay(points[k]));
  const margin = q.parts.map((c) => gamma(64) * c);
  const atPoints = points.map((x, k) => (Math.abs(horner(q.value, x)) + gamma(2 * absolute.length + 1) * crude[k] + 2 * horner(margin, Math.abs(x))) * decay(x));
  return between(atPoints, onIntervals(secondDerivative(q.value, q.parts), points, spread, levels - 1), spread);
}

/** Bounds on |f| over intervals, from |f| at their ends and bounds on |f''|. */
function between(atPoints, curvature, spread) {
  return curvature.map((c, k) => (Math.max(atPoints[k], atPoints[k + 1]) + (spread ** 2 / 8) * c) * (1 + gamma(16)));
}

/** The coefficients of P'' - 2 P' + P, and the sums of the magnitudes that went into them. */
function secondDerivative(c, parts = c.map(Math.abs)) {
  let value = [...c], sums = [...parts];
  for (let time = 0; time < 2; time++) {
    const next = (list, j, sign) => (j + 1 < list.length ? (j + 1) * list[j + 1] : 0) + sign * list[j];
    [value, sums] = [value.map((_, j) => next(value, j, -1)), sums.map((_, j) => next(sums, j, 1))];
  }
  return { value, parts: sums };
}

/** Horner's rule with its rounding errors added up (Graillat, Langlois and Louvet 2005). */
function compensated(coefficients, x) {
  let value = coefficients.at(-1), correction = 0;
  for (let j = coefficients.length - 2; j >= 0; j--) {
    const product = value * x, ofProduct = productError(value, x, product);
    const sum = product + coefficients[j], ofC = sum - product;
    const ofSum = product - (sum - ofC) + (coefficients[j] - ofC);
    value = sum;
    correction = correction * x + (ofProduct + ofSum);
  }
  return value + correction;
}

/** a b - fl(a b), exactly (Dekker). */
function productError(a, b, product) {
  const [a1, a2] = halves(a), [b1, b2] = halves(b);
  return a2 * b2 - (product - a1 * b1 - a2 * b1 - a1 * b2);
}

function halves(x) {
  const shifted = x * (2 ** 27 + 1), high = shifted - (shifted - x);
  return [high, x - high];
}
