// A few drawn letters in, a whole alphabet out.

import { latest } from "../backend.js";
import { byId, make } from "../dom.js";
import { Pad } from "../pad.js";
import { paintPicture } from "../paint.js";
import { bind } from "../store.js";
import { greyOf, lettersOf } from "../typeface/photo.js";
import { saveFont, saveSheetPng, saveSheetSvg } from "./saving.js";
import { sentence } from "./typesetting.js";

const FIRST = ["A", "R", "g", "e"], MOST = 6, MORE = ["n", "S"];
const FILES = ["png", "svg", "font"].map((kind) => `alphabet-${kind}`); // buttons that wait for something drawn

// Strokes of the pen, [row, column] in parts of the square, for people who would rather not draw.
const STROKES = {
  A: [[[0.75, 0.24], [0.15, 0.5], [0.75, 0.76]], [[0.55, 0.33], [0.55, 0.67]]],
  R: [[[0.75, 0.34], [0.15, 0.34], [0.15, 0.56], [0.24, 0.65], [0.36, 0.65], [0.45, 0.56], [0.45, 0.34]], [[0.45, 0.5], [0.75, 0.68]]],
  g: [[[0.45, 0.63], [0.36, 0.52], [0.37, 0.42], [0.48, 0.36], [0.62, 0.36], [0.72, 0.42], [0.73, 0.52], [0.64, 0.63]],
    [[0.36, 0.64], [0.82, 0.64], [0.92, 0.54], [0.92, 0.42], [0.87, 0.36]]],
  e: [[[0.55, 0.36], [0.55, 0.65], [0.43, 0.62], [0.36, 0.51], [0.41, 0.4], [0.55, 0.36], [0.68, 0.4], [0.74, 0.5], [0.7, 0.63]]],
};
const HANDS = {
  upright: ([row, column]) => [row, column],
  slanted: ([row, column]) => [row, column + 0.28 * (0.6 - row)],
  wide: ([row, column]) => [row, 0.5 + 1.35 * (column - 0.5)],
};

/** Shows the first model that reads examples; hides the section where there is none. */
export function setUpAlphabet(store, runner, models, onError) {
  const model = models.find((each) => each.abilities.includes("examples"));
  byId("alphabet").hidden = !model;
  if (!model) return;
  const { class_names: names, sample: { size } } = model;
  bind(store, "letterguidance", byId("alphabet-guidance"), (value) => value.toFixed(2));
  bind(store, "lettersread", byId("alphabet-read"), (value) => (value < MOST ? `the first ${value}` : "all"));
  const cells = names.map((name) => {
    const canvas = make("canvas", { class: "picture", role: "img", "aria-label": `The character ${name}` });
    paintPicture(canvas, new Float32Array(size * size).fill(-1), size);
    return canvas;
  });
  byId("alphabet-sheet").replaceChildren(...cells);
  const drawn = new Map(); // id of a character -> its picture

  const entries = [];
  function addPad(letter) {
    const select = make("select", { "aria-label": "This letter is" }, ...names.map((name, id) => make("option", { value: id }, name)));
    select.value = names.indexOf(letter);
    const pad = new Pad({ side: size, label: "A letter of your own", soft: true });
    const holder = make("div", { class: "pad lined" }, pad.canvas);
    const clear = make("button", { type: "button", onclick: () => pad.set(new Float32Array(size * size).fill(-1)) }, "Clear");
    byId("alphabet-pads").append(make("div", { class: "letter" }, make("span", { class: "pair" }, select, clear), holder));
    entries.push({ pad, select });
    byId("alphabet-more").disabled = entries.length >= MOST;
  }
  FIRST.forEach(addPad);

  const shown = () => entries.filter(({ pad }) => pad.values.some((value) => value > -1));
  /** All characters; those that the visitor drew as they are. */
  function withOwn() {
    return new Map([...drawn, ...shown().map(({ pad, select }) => [Number(select.value), Float32Array.from(pad.values)])]);
  }
  function say(words) {
    byId("alphabet-status").textContent = words;
  }
  function write() {
    sentence(byId("alphabet-line"), byId("alphabet-text").value, names, drawn, size);
  }

  const run = latest(async (signal) => {
    if (!shown().length) return say("Draw a letter first, or let one be drawn for you.");
    const examples = shown().slice(0, store.get("lettersread"))
      .map(({ pad, select }) => ({ x: Float32Array.from(pad.values), class_label: Number(select.value) }));
    const request = {
      model: model.id, examples, class_labels: names.map((_, id) => id), seed: store.get("letterseed"),
      num_inference_steps: 12, guidance_scale: store.get("letterguidance"),
    };
    for (const canvas of cells) canvas.classList.add("waiting");
    const begin = performance.now();
    await runner.sample(request, signal, ({ first, pictures, total, done }) => {
      pictures.forEach((picture, k) => {
        drawn.set(first + k, Float32Array.from(picture));
        paintPicture(cells[first + k], picture, size);
        cells[first + k].classList.remove("waiting");
      });
      const seconds = ((performance.now() - begin) / 1000).toFixed(1);
      say(done ? `${total} characters from ${examples.length || "the labels alone"} in ${seconds} s.` : `${first + pictures.length} of ${total} characters …`);
      write();
    });
    for (const id of FILES) byId(id).disabled = false;
  }, onError);

  byId("alphabet-go").addEventListener("click", run);
  byId("alphabet-again").addEventListener("click", () => {
    store.set({ letterseed: store.get("letterseed") + 1 });
    run();
  });
  byId("alphabet-more").addEventListener("click", () => addPad(MORE[entries.length - FIRST.length]));
  byId("alphabet-hand").addEventListener("change", ({ target }) => {
    const hand = HANDS[target.value];
    if (!hand) return;
    FIRST.forEach((letter, k) => {
      const { pad, select } = entries[k];
      select.value = names.indexOf(letter);
      pad.set(new Float32Array(size * size).fill(-1));
      for (const stroke of STROKES[letter]) pad.draw(stroke.map((point) => hand(point).map((part) => Math.min(Math.max(part * size, 1), size - 1))));
    });
  });
  byId("alphabet-photo").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    if (!file) return;
    try {
      const { grey, width, height } = await greyOf(file);
      const strange = [...byId("alphabet-photo-text").value].filter((letter) => letter.trim() && !names.includes(letter));
      if (strange.length) throw new Error(`the model does not know ${strange.join(" ")}`);
      const found = [...lettersOf(grey, width, height, byId("alphabet-photo-text").value, size)];
      while (entries.length < found.length) addPad(found[entries.length][0]);
      entries.forEach(({ pad, select }, k) => {
        pad.set(found[k]?.[1] ?? new Float32Array(size * size).fill(-1));
        if (found[k]) select.value = names.indexOf(found[k][0]);
      });
      say(`${found.length} letters are taken from the photo.`);
    } catch (error) {
      say(`This photo cannot be used: ${error.message}.`);
    }
    target.value = ""; // so that the same file can be chosen again
  });
  byId("alphabet-text").addEventListener("input", write);
  byId("alphabet-png").addEventListener("click", () => saveSheetPng(names, drawn, size));
  byId("alphabet-svg").addEventListener("click", () => saveSheetSvg(names, drawn, size));
  byId("alphabet-font").addEventListener("click", async ({ target }) => {
    target.disabled = true;
    try {
      say(`Your font is in ${await saveFont(runner, names, withOwn(), size, "My Hand")}.`);
    } catch (error) {
      onError(error);
    } finally {
      target.disabled = false;
    }
  });
}
