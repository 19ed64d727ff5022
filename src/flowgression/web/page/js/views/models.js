// The models side by side from one seed, with a scrubber over time.

import { latest } from "../backend.js";
import { byId, debounced, make } from "../dom.js";
import { magnitude, paintBlank, paintPicture, paintSigned } from "../paint.js";
import { bind } from "../store.js";
import { callsOf, drawsDigits, guess, moment, sideOf, title } from "./titles.js";

/** Builds the choices that all sections share, and the columns; returns {add(model)}. */
export function setUpModels(store, runner, models, onError) {
  classChoices(store, models[0]);
  const solvers = models[0].solvers ?? ["euler", "heun"];
  byId("solver").replaceChildren(...solvers.map((name) => make("option", { value: name }, name)));
  for (const name of ["seed", "steps", "solver"]) bind(store, name, byId(name));
  bind(store, "guidance", byId("guidance"), (s) => (s === 1 ? "none" : s.toFixed(2)));
  bind(store, "time", byId("time"), (t) => `${Math.round(t / 10)} %`);
  byId("new-seed").addEventListener("click", () => store.set({ seed: Math.floor(Math.random() * 1e6) }));

  const columns = models.map((model) => new Column(model, store));
  const container = byId("model-columns");
  container.replaceChildren(...columns.map((column) => column.figure));

  const run = latest(async (signal) => {
    container.setAttribute("aria-busy", "true");
    for (const column of columns) column.clear();
    for (const column of columns) await column.run(runner, signal);
    container.setAttribute("aria-busy", "false");
  }, onError);
  const soon = debounced(run, 150);
  const again = () => {
    container.setAttribute("aria-busy", "true");
    soon();
  };
  store.listen(["class", "seed", "steps", "guidance", "solver"], again);
  store.listen(["time"], () => columns.forEach((column) => column.show()));
  playButton(store);
  run();

  return {
    add(model) {
      const column = new Column(model, store);
      columns.push(column);
      container.append(column.figure);
      again();
    },
  };
}

/** The request that the shared choices make of a model. One of average velocities takes one step whatever is chosen. */
export function request(store, model) {
  const few = model.abilities.includes("averages");
  return {
    model: model.id,
    class_label: Math.min(Math.max(store.get("class"), 0), model.class_names.length - 1),
    seed: store.get("seed"),
    num_inference_steps: few ? 1 : store.get("steps"),
    guidance_scale: few ? 1 : store.get("guidance"),
    solver: few ? "euler" : store.get("solver"),
  };
}

/** One model's pictures. */
export class Column {
  constructor(model, store, ask = request) {
    Object.assign(this, { model, store, ask, frames: [] });
    this.picture = make("canvas", { class: "picture", role: "img", "aria-label": `${title(model)}: picture` });
    this.velocity = make("canvas", { class: "picture", role: "img", "aria-label": `${title(model)}: velocity` });
    this.end = make("canvas", { class: "picture", role: "img", "aria-label": `${title(model)}: predicted end` });
    this.said = make("p", { class: "said" });
    this.cost = make("p", { class: "cost" });
    const twin = (canvas, name) => make("div", {}, canvas, make("span", {}, name));
    const twins = make("div", { class: "twins" }, twin(this.velocity, "velocity"), twin(this.end, "predicted end"));
    this.figure = make("figure", { "data-model": model.name }, make("h3", {}, title(model)), this.picture, twins, make("figcaption", {}, this.said, this.cost));
    this.clear();
  }

  clear() {
    this.frames = [];
    this.seconds = 0;
    this.figure.classList.add("waiting");
    this.said.textContent = "waiting";
    this.cost.textContent = "";
    for (const canvas of [this.picture, this.velocity, this.end]) if (!canvas.dataset.painted) paintBlank(canvas, this.model.sample.size);
  }

  async run(runner, signal) {
    const asked = this.ask(this.store, this.model);
    this.said.textContent = "drawing …";
    this.figure.classList.remove("waiting");
    const frames = await runner.sample(asked, signal, (frame, sofar) => {
      this.frames = [...sofar];
      this.paint(frame);
    });
    this.frames = frames;
    this.seconds = frames.seconds;
    this.figure.dataset.seconds = this.seconds.toFixed(3);
    this.show();
    if (readable(this.model)) {
      const probabilities = await runner.classify(frames.at(-1).x);
      signal.throwIfAborted();
      this.said.textContent = `read as ${guess(probabilities, this.model.class_names)}`;
    } else this.said.textContent = "";
  }

  /** The frame of the chosen time. */
  show() {
    if (!this.frames.at(-1)?.done) return;
    const share = this.store.get("time") / 1000;
    this.paint(this.frames[Math.round(share * (this.frames.length - 1))]);
  }

  paint(frame) {
    const { channels } = this.model.sample, side = sideOf(frame.x, channels);
    paintPicture(this.picture, frame.x, side, channels);
    paintSigned(this.velocity, frame.velocity, side, side, magnitude(frame.velocity));
    paintPicture(this.end, frame.predicted, side, channels);
    this.picture.dataset.painted = "yes";
    const asked = this.ask(this.store, this.model);
    const calls = callsOf(this.model, asked.solver, asked.num_inference_steps);
    const time = this.seconds ? `, ${this.seconds < 1 ? `${Math.round(1000 * this.seconds)} ms` : `${this.seconds.toFixed(1)} s`}` : "";
    this.cost.textContent = `${moment(this.model, frame)}; ${calls} NFE in all${time}`;
  }
}

/** Whether the classifier of digits can read what the model draws. */
export const readable = (model) => drawsDigits(model) && model.sample.size === 28 && model.sample.channels === 1;

function classChoices(store, model) {
  const names = model.class_names, digits = drawsDigits(model);
  const inputs = names.map((name, k) => make("input", { type: "radio", name: "class", value: k, "aria-label": name }));
  const label = (k) => make("label", { title: names[k] }, inputs[k], digits ? String(k) : names[k]);
  byId("class-choices").replaceChildren(...names.map((_, k) => label(k)));
  const show = () => inputs.forEach((input, k) => (input.checked = k === Math.min(store.get("class"), names.length - 1)));
  inputs.forEach((input, k) => input.addEventListener("change", () => store.set({ class: k })));
  store.listen(["class"], show);
  show();
}

function playButton(store) {
  const button = byId("play");
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Play";
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Stop";
    let time = store.get("time") >= 1000 ? 0 : store.get("time");
    timer = setInterval(() => {
      time = Math.min(time + 20, 1000);
      store.set({ time });
      if (time >= 1000) stop();
    }, 60);
  });
}
