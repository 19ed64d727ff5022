// The section on low rank: softmax attention beside its polynomial, on a map whose positions know where they are.

import { byId, fillNumbers, make, shown } from "../dom.js";
import { magnitude, paintAmount, paintSigned } from "../paint.js";
import { bind } from "../store.js";
import { certificate, exactAttention, polynomialAttention, rank } from "./attention.js";
import { horner, minimaxExp } from "./minimax.js";

const SIDE = 7, WIDTH = 8;
const SEVEN = ["0000000", "0111110", "0000010", "0000100", "0001000", "0001000", "0000000"];

/** Unit queries and keys [49][8]: sines and cosines of rows and columns at two frequencies. */
export function positions() {
  const rows = [];
  for (let i = 0; i < SIDE * SIDE; i++) {
    const [row, column] = [Math.floor(i / SIDE), i % SIDE];
    const angles = [0.45, 0.9].flatMap((f) => [f * row, f * column]);
    const features = angles.flatMap((a) => [Math.cos(a), Math.sin(a)]);
    const length = Math.hypot(...features);
    rows.push(features.map((x) => x / length));
  }
  return rows;
}

/** Shows both attentions, their difference and their certificate for the chosen degree and bound. */
export function setUpLowRank(store) {
  const tokens = positions();
  const values = [...SEVEN.join("")].map((c) => [Number(c)]);
  bind(store, "degree", byId("degree"));
  bind(store, "tau", byId("tau"));
  bind(store, "query", byId("query"), (i) => `row ${Math.floor(i / SIDE) + 1}, column ${(i % SIDE) + 1}`);

  function show() {
    const degree = Number(byId("degree").value), tau = Number(byId("tau").value), query = Number(byId("query").value);
    const exact = exactAttention(tokens, tokens, values, tau);
    const poly = polynomialAttention(tokens, tokens, values, tau, degree);
    const [a, b] = [exact.weights.flat(), poly.weights.flat()];
    const difference = b.map((w, i) => w - a[i]);
    const limit = magnitude(a), most = magnitude(difference), count = tokens.length;
    paintAmount(byId("attention-exact"), a, count, count, limit);
    paintAmount(byId("attention-poly"), b, count, count, limit);
    paintSigned(byId("attention-difference"), difference, count, count, most);
    byId("attention-difference-caption").textContent = `Difference, at most ${shown(most)} of a weight`;
    paintAmount(byId("row-exact"), exact.weights[query], SIDE, SIDE, magnitude(exact.weights[query]));
    paintAmount(byId("row-poly"), poly.weights[query], SIDE, SIDE, magnitude(exact.weights[query]));
    const { coefficients, eps } = minimaxExp(degree, tau);
    byId("error-curve").replaceChildren(curve(coefficients, tau, eps), make("figcaption", {}, "P(x) e⁻ˣ − 1 over all logits"));
    const error = Math.max(...exact.output.map((row, i) => Math.abs(row[0] - poly.output[i][0])));
    const [bound] = certificate(values, WIDTH, tau, degree);
    fillNumbers(byId("lowrank-numbers"), [
      ["Error of the output, measured", shown(error)],
      ["Certificate", shown(bound.truncation + bound.rounding)],
      ["ε of the polynomial", shown(eps)],
      ["Rank", rank(WIDTH, degree).toLocaleString("en")],
      ["Fewer products above", `${rank(WIDTH, degree).toLocaleString("en")} positions`],
    ]);
  }
  store.listen(["degree", "tau", "query"], show);
  show();
}

/** The relative error of the polynomial over [-tau, tau], as a small chart. */
function curve(coefficients, tau, eps) {
  const points = Array.from({ length: 161 }, (_, k) => {
    const x = tau * (k / 80 - 1), error = horner(coefficients, x) * Math.exp(-x) - 1;
    return `${(10 + (k / 160) * 180).toFixed(1)},${(100 - (error / eps) * 80).toFixed(1)}`;
  });
  const text = (x, y, content, anchor) => make("svg:text", { x, y, "text-anchor": anchor }, content);
  return make("svg:svg", { viewBox: "0 0 200 200", class: "chart", role: "img", "aria-label": `Relative error within ${shown(eps)} of zero` },
    make("svg:path", { class: "axis", d: "M10 100H190M10 20H190M10 180H190", "stroke-dasharray": "3 3" }),
    make("svg:polyline", { class: "line s2", points: points.join(" ") }),
    text(190, 15, `+${shown(eps)}`, "end"), text(190, 195, `−${shown(eps)}`, "end"),
    text(10, 195, "−τ", "start"), text(10, 15, "error", "start"));
}
