// Image to image: a drawing in colour, or a picture from a file, noised and drawn anew by the models that can.

import { latest } from "../backend.js";
import { byId, make } from "../dom.js";
import { Pad } from "../pad.js";
import { bind } from "../store.js";
import { finishRequest } from "./finish.js";
import { Column, readable } from "./models.js";

/** Shows the section for models of pixels that are no digits, of the first one's size; returns {add(model)}. */
export function setUpPicture(store, runner, models, onError) {
  const able = [], columns = [];
  const results = byId("picture-results");
  let pad = null;

  const shared = {
    get: (name) => (name === "finishclass" ? Math.min(store.get("pictureclass"), able[0].class_names.length - 1)
      : name === "finishtime" ? Math.min(1 - store.get("strength"), 0.999)
        : name === "time" ? 1000 : store.get(name)),
  };
  const run = latest(async (signal) => {
    results.replaceChildren(...columns.map((column) => column.figure));
    for (const column of columns) column.clear();
    for (const column of columns) await column.run(runner, signal);
  }, onError);

  function begin(model) {
    const { channels, size } = model.sample, names = model.class_names;
    byId("picture-class").replaceChildren(...names.map((name, k) => make("option", { value: k }, name)));
    bind(store, "pictureclass", byId("picture-class"));
    bind(store, "strength", byId("picture-strength"), (s) => s.toFixed(2));
    const grey = channels === 1, paper = grey ? -1 : 1; // as grey models are shown, ink on paper
    byId("picture-brush").closest("label").hidden = grey;
    const brush = () => (grey ? 1 : colourOf(byId("picture-brush").value));
    pad = new Pad({ side: size, channels, paper, label: "Your picture", soft: true, brush });
    byId("picture-pad").append(pad.canvas);
    byId("picture-clear").addEventListener("click", () => pad.set(new Float32Array(channels * size * size).fill(paper)));
    byId("picture-go").addEventListener("click", run);
    byId("picture-file").addEventListener("change", async ({ target }) => {
      if (!target.files.length) return;
      try {
        pad.set(await pixelsOf(target.files[0], size, channels));
      } catch {
        onError(new Error(`${target.files[0].name} is no picture that this browser can read`));
      }
    });
  }

  function add(model) {
    const fits = !able.length || JSON.stringify(able[0].sample) === JSON.stringify(model.sample);
    if (!model.abilities.includes("complete") || readable(model) || !fits) return;
    able.push(model);
    if (able.length === 1) begin(model);
    columns.push(new Column(model, shared, (_, each) => finishRequest(shared, each, Float32Array.from(pad.values))));
    byId("picture").hidden = false;
  }

  models.forEach(add);
  return { add };
}

/** "#rrggbb" as three values in [-1, 1]. */
export const colourOf = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16) / 127.5 - 1);

const luminance = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b;

/** The middle square of a picture file on white, as [channels, size, size] in [-1, 1]. */
async function pixelsOf(file, size, channels) {
  const image = await createImageBitmap(file), side = Math.min(image.width, image.height);
  const canvas = make("canvas", { width: size, height: size });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, size, size);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, size, size);
  const { data } = context.getImageData(0, 0, size, size), area = size * size;
  const values = new Float32Array(channels * area);
  for (let at = 0; at < area; at++) {
    const rgb = [0, 1, 2].map((c) => data[4 * at + c] / 127.5 - 1);
    if (channels === 1) values[at] = luminance(rgb);
    else rgb.forEach((value, c) => (values[c * area + at] = value));
  }
  return values;
}
