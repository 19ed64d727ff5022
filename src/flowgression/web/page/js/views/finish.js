// A drawing, noised to a time and finished by every model, also as another class.

import { latest } from "../backend.js";
import { byId, debounced, make } from "../dom.js";
import { Pad } from "../pad.js";
import { bind } from "../store.js";
import { Column, readable, request } from "./models.js";
import { guess } from "./titles.js";

const SEVEN = [[7, 7], [7, 20], [11, 18], [16, 15], [22, 13]]; // [row, column] on 28 x 28

/** Means over the windows of adaptive average pooling: a picture [channels, size, size] as [channels, side, side]. */
export function shrink(values, size, side, channels = 1) {
  const small = new Float32Array(channels * side * side);
  const window = (i) => [Math.floor((i * size) / side), Math.ceil(((i + 1) * size) / side)];
  for (let row = 0; row < channels * side; row++) {
    for (let j = 0; j < side; j++) {
      const plane = Math.floor(row / side), [top, bottom] = window(row % side), [left, right] = window(j);
      let sum = 0;
      for (let r = top; r < bottom; r++) for (let c = left; c < right; c++) sum += values[(plane * size + r) * size + c];
      small[row * side + j] = sum / ((bottom - top) * (right - left));
    }
  }
  return small;
}

/** What is asked of a model: a start in the middle, or for FlowAR as many coarse maps of the drawing as the time allows. */
export function finishRequest(store, model, drawing) {
  const t = store.get("finishtime"), chosen = store.get("finishclass");
  const asked = { ...request(store, model), class_label: chosen };
  if (!model.abilities.includes("scales")) return { ...asked, start: { x: drawing, t } };
  const sides = model.map_sides ?? model.scales.map((s) => (s * model.sample.size) / model.scales.at(-1));
  const count = Math.min(Math.round(t * model.scales.length), model.scales.length - 1);
  return { ...asked, maps: sides.slice(0, count).map((side) => shrink(drawing, model.sample.size, side, model.sample.channels)) };
}

export function setUpFinish(store, runner, models, onError) {
  const able = models.filter((model) => model.abilities.includes("complete") && readable(model));
  byId("finish").hidden = !able.length;
  if (!able.length) return;
  const names = able[0].class_names;
  const labels = names.map((name, k) => make("option", { value: k }, name));
  byId("finish-class").replaceChildren(make("option", { value: -1 }, "what it looks like"), ...labels);
  bind(store, "finishclass", byId("finish-class"));
  bind(store, "finishtime", byId("finish-time"), (t) => t.toFixed(2));

  let looks = null; // the class that the classifier saw in the drawing
  const pad = new Pad({ side: 28, label: "Drawing of a digit", soft: true, onStroke: debounced(() => read(), 120) });
  byId("pad").append(pad.canvas);
  byId("pad-bars").replaceChildren(...names.map((_, k) => make("span", { class: "bar" }, make("i"), String(k))));

  const empty = () => pad.values.every((value) => value <= -1);
  async function read() {
    if (empty()) return;
    try {
      show(await runner.classify(pad.values));
    } catch (error) {
      onError(error);
    }
  }
  function show(probabilities) {
    looks = probabilities.indexOf(Math.max(...probabilities));
    byId("pad-guess").textContent = `This looks like: ${guess(probabilities, names)}.`;
    [...byId("pad-bars").children].forEach((bar, k) => (bar.firstChild.style.height = `${100 * probabilities[k]}%`));
  }

  const shared = { get: (name) => (name === "finishclass" && store.get(name) < 0 ? looks ?? 0 : store.get(name)) };
  const columns = able.map((model) => new Column(model, { get: (name) => (name === "time" ? 1000 : shared.get(name)) },
    (_, each) => finishRequest(shared, each, Float32Array.from(pad.values))));
  const run = latest(async (signal) => {
    if (empty()) {
      byId("pad-guess").textContent = "Draw something first.";
      return;
    }
    await read();
    byId("finish-results").replaceChildren(...columns.map((column) => column.figure));
    for (const column of columns) column.clear();
    for (const column of columns) await column.run(runner, signal);
  }, onError);
  byId("finish-go").addEventListener("click", run);
  byId("pad-clear").addEventListener("click", () => {
    pad.set(new Float32Array(28 * 28).fill(-1));
    byId("pad-guess").textContent = "Nothing drawn yet.";
    for (const bar of byId("pad-bars").children) bar.firstChild.style.height = "0";
  });
  byId("pad-example").addEventListener("click", () => {
    pad.set(new Float32Array(28 * 28).fill(-1));
    pad.draw(SEVEN);
  });
}
