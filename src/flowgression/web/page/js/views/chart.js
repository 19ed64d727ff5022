// FID against NFE of the built-in models, measured beforehand, with rings at what is chosen.

import { byId, make } from "../dom.js";
import { callsOf, title } from "./titles.js";

const WIDTH = 560, HEIGHT = 300, LEFT = 46, RIGHT = 96, TOP = 14, BOTTOM = 40;

export async function setUpChart(store, models) {
  const response = await fetch(new URL("../../data/fid.json", import.meta.url));
  if (!response.ok) throw new Error(`data/fid.json: ${response.status}`);
  const data = await response.json();
  const shown = models.filter((model) => Object.hasOwn(data.models, model.name));
  const figure = byId("fid-chart");
  const draw = () => figure.replaceChildren(chart(data, shown, store), make("figcaption", { class: "caption" },
    `${data.num_images} samples each, guidance ${data.guidance_scale}, Euler, against the training digits; ${data.measured}.`));
  store.listen(["steps", "solver"], draw);
  draw();
}

function chart(data, models, store) {
  const all = models.flatMap((model) => data.models[model.name]);
  const span = (values) => [Math.log2(Math.min(...values)), Math.log2(Math.max(...values))];
  const [x0, x1] = span(all.map((p) => p.nfe)), [y0, y1] = span(all.map((p) => p.fid));
  const x = (nfe) => LEFT + ((Math.log2(nfe) - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const y = (fid) => HEIGHT - BOTTOM - ((Math.log2(fid) - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const svg = make("svg:svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": describe(data, models) });
  const text = (at, to, content, anchor = "middle", kind = "") => svg.append(make("svg:text", { x: at, y: to, "text-anchor": anchor, class: kind }, content));
  svg.append(make("svg:path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }));
  for (let k = Math.ceil(x0); k <= x1; k++) text(x(2 ** k), HEIGHT - BOTTOM + 18, String(2 ** k));
  for (let k = Math.ceil(y0); k <= y1 - 0.3; k++) text(LEFT - 8, y(2 ** k) + 4, String(2 ** k), "end");
  text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "NFE for one picture");
  text(LEFT - 8, TOP + 4, "FID", "end");
  const ends = models.map((model, k) => [k, y(data.models[model.name].at(-1).fid)]).sort((a, b) => a[1] - b[1]);
  ends.forEach((end, i) => (end[1] = i ? Math.max(end[1], ends[i - 1][1] + 15) : end[1]));
  models.forEach((model, k) => {
    const points = data.models[model.name];
    svg.append(make("svg:polyline", { class: `line s${k % 4}`, points: points.map((p) => `${x(p.nfe).toFixed(1)},${y(p.fid).toFixed(1)}`).join(" ") }));
    const nfe = callsOf(model, store.get("solver"), store.get("steps"));
    if (store.get("solver") === "euler" && nfe >= points[0].nfe && nfe <= points.at(-1).nfe) {
      svg.append(make("svg:circle", { class: `ring s${k % 4}`, cx: x(nfe), cy: y(between(points, nfe)), r: 5 }));
    }
  });
  models.forEach((model, k) => {
    text(x(data.models[model.name].at(-1).nfe) + 10, ends.find(([i]) => i === k)[1] + 4, title(model), "start", `s${k % 4}`);
  });
  return svg;
}

/** FID at an NFE between measured ones, along the line that is drawn. */
function between(points, nfe) {
  const next = points.findIndex((p) => p.nfe >= nfe);
  if (points[next].nfe === nfe) return points[next].fid;
  const [a, b] = [points[next - 1], points[next]];
  const share = Math.log(nfe / a.nfe) / Math.log(b.nfe / a.nfe);
  return a.fid * (b.fid / a.fid) ** share;
}

function describe(data, models) {
  return models.map((model) => `${title(model)}: ${data.models[model.name].map((p) => `FID ${p.fid.toFixed(1)} at ${p.nfe} NFE`).join(", ")}`).join(". ");
}
