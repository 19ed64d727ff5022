// Softmax attention and the polynomial in its place, dense, in float64, with the certificate of
// flowgression.ops.lowrank.error_bounds. Arrays of rows: q [M][d], k [N][d], v [N][e].

import { horner, minimaxExp, SLACK } from "./minimax.js";

const UNIT = 2 ** -53, TINY = 2 ** -1022, BLOCK = 64;

/** weights [M][N] with rows that sum to 1, and outputs [M][e]; `kernel` maps a logit to a weight before the division. */
export function attend(q, k, v, tau, kernel) {
  const weights = q.map((query) => {
    const row = k.map((key) => kernel(tau * query.reduce((sum, x, j) => sum + x * key[j], 0)));
    const total = row.reduce((a, b) => a + b, 0);
    return row.map((w) => w / total);
  });
  const output = weights.map((row) => v[0].map((_, c) => row.reduce((sum, w, j) => sum + w * v[j][c], 0)));
  return { weights, output };
}

/** By softmax. */
export const exactAttention = (q, k, v, tau) => attend(q, k, v, tau, Math.exp);

/** By the minimax polynomial of this degree on [-tau, tau], for unit queries and keys. */
export function polynomialAttention(q, k, v, tau, degree) {
  const { coefficients } = minimaxExp(degree, tau);
  return attend(q, k, v, tau, (x) => horner(coefficients, x));
}

/** C(d + g, g), the number of features. */
export function rank(d, g) {
  let value = 1;
  for (let j = 1; j <= g; j++) value = (value * (d + j)) / j;
  return Math.round(value);
}

/** {truncation, rounding}: bounds on |polynomial - softmax| of every channel, for unit queries and keys, in float64. */
export function certificate(v, d, tau, degree) {
  const { coefficients, eps } = minimaxExp(degree, tau);
  const factor = eps < 1 ? Math.tanh(Math.atanh(eps) / 2) : 1;
  const channels = v[0].map((_, c) => v.map((row) => row[c]));
  return channels.map((column) => ({
    truncation: factor * (Math.max(...column) - Math.min(...column)),
    rounding: rounding(coefficients, eps, tau, degree, d, v.length, Math.max(...column.map(Math.abs))),
  }));
}

/** Lemmas 5 and 6 of docs/theory-reference.md, letters as in error_bounds.py. */
function rounding(coefficients, eps, tau, g, d, tokens, largest) {
  const smallest = (1 - eps) * Math.exp(-tau * (1 + SLACK));
  if (smallest <= 0) return Infinity;
  const absolute = coefficients.map(Math.abs), entry = Math.max(1, tau) * (1 + SLACK);
  const products = horner(absolute, tau * (1 + SLACK));
  const weights = horner(absolute, d) + (d + 1) ** g;
  const block = Math.min(tokens, BLOCK), features = 2 * g + 2 * (g - 1) + g;
  const roundings = Math.max(features + block + 4 + Math.min(rank(d, g), BLOCK) + 1, g * (d + 3) + 2 * g + 2 + block + 1);
  const others = 3 * tokens + rank(d, g) + g + 8;
  const gamma = (n) => (n * UNIT) / (1 - n * UNIT);
  const relative = (((1 + gamma(roundings)) * (1 + gamma(others)) - 1) * products) / smallest;
  const underflow = (16 * (g + 1) * TINY * entry ** (2 * g) * weights) / smallest;
  if (!(relative + underflow < 1)) return Infinity;
  let error = (2 * (relative * largest + underflow * Math.max(largest, 1))) / (1 - relative - underflow);
  error += UNIT * (largest + error) + TINY;
  return error * (1 + 2 ** -40);
}
