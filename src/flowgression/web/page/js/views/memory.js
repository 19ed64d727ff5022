// ARFlow's state: looked at, forgotten, and swapped for that of another class.

import { latest } from "../backend.js";
import { byId, debounced, make, shown, whenNear } from "../dom.js";
import { magnitude, paintBlank, paintPicture, paintSigned, paintAmount } from "../paint.js";
import { bind } from "../store.js";
import { request } from "./models.js";

/** Shows the first model that has a state; hides the section where there is none. */
export function setUpMemory(store, runner, models, onError) {
  const model = models.find((each) => each.abilities.includes("state"));
  byId("memory").hidden = !model;
  if (!model) return;
  const names = model.class_names;
  byId("past-class").replaceChildren(...names.map((name, k) => make("option", { value: k }, name)));
  bind(store, "past", byId("past"));
  bind(store, "forget", byId("forget-from"));
  bind(store, "pastclass", byId("past-class"));
  bind(store, "look", byId("memory-step"));
  const { channels, size } = model.sample;
  let own = [], changed = [];

  const controls = () => {
    const steps = store.get("steps"), past = store.get("past");
    byId("forget-from").max = steps - 1;
    byId("memory-step").max = steps;
    byId("forget-from").value = forgotten();
    byId("memory-step").value = looked();
    byId("forget-from-out").textContent = String(forgotten());
    byId("memory-step-out").textContent = looked() === steps ? "the end" : String(looked());
    byId("forget-from").disabled = past !== "forget";
    byId("past-class").disabled = past !== "other";
  };
  const forgotten = () => Math.min(store.get("forget"), store.get("steps") - 1);
  const looked = () => Math.min(store.get("look"), store.get("steps")); // as many frames as steps, and the end

  function history() {
    if (store.get("past") === "forget") return { forget_from: forgotten() };
    if (store.get("past") === "other") return { class_label: store.get("pastclass") };
    return null;
  }

  function paint() {
    controls();
    if (!own.length || !changed.length) return;
    const at = looked(), first = own[at], second = changed[at];
    if (!first || !second) return;
    const difference = second.x.map((value, i) => value - first.x[i]);
    paintPicture(byId("memory-own"), first.x, size, channels);
    paintPicture(byId("memory-changed"), second.x, size, channels);
    paintSigned(byId("memory-difference"), difference, size, size, magnitude(difference, 0.2));
    const captions = { own: "The same", forget: `Past forgotten from step ${forgotten()} on`, other: `With the past of class ${names[store.get("pastclass")]}` };
    byId("memory-changed-caption").textContent = Object.hasOwn(captions, store.get("past")) ? captions[store.get("past")] : captions.own;
    byId("memory-difference-caption").textContent = `Difference, at most ${shown(magnitude(difference, 0))}`;
    paintState(second.state);
    paintDecay(changed.slice(0, -1).map((frame) => frame.state.decay), second.state.shape);
  }

  function paintState({ values, shape: [layers, heads, d] }) {
    const container = byId("state-maps"), area = d * d;
    if (container.childElementCount !== layers) {
      container.replaceChildren(...Array.from({ length: layers }, (_, l) => {
        const maps = Array.from({ length: heads }, (_, h) => make("canvas", { class: "picture", role: "img", "aria-label": `State of layer ${l + 1}, head ${h + 1}` }));
        const row = make("div", { class: "state-row" }, make("span", {}, `layer ${l + 1}`), ...maps);
        row.style.setProperty("--heads", heads);
        return row;
      }));
    }
    container.querySelectorAll("canvas").forEach((canvas, k) => {
      const part = values.subarray(k * area, (k + 1) * area);
      paintSigned(canvas, part, d, d, magnitude(part));
    });
  }

  /** Rows are heads, columns steps; the darker, the more of the state is kept. */
  function paintDecay(decays, [layers, heads]) {
    const rows = layers * heads, columns = decays.length, shares = new Float32Array(rows * columns);
    decays.forEach((decay, column) => decay.forEach((a, row) => (shares[row * columns + column] = Math.exp(a))));
    const least = Math.min(...shares), here = Math.min(looked(), columns - 1);
    const kept = (which) => shown(100 * Math.exp(which(...decays[here])));
    paintAmount(byId("decay-map"), shares.map((s) => (s - least) / Math.max(1 - least, 1e-6)), columns, rows, 1);
    byId("decay-caption").textContent = `One row a head (layer 1 at the top), one column a step; ink is exp of the log-decay, from ${shown(least)} (paper) to 1 (ink). ` +
      `At step ${here} the heads keep ${kept(Math.min)} to ${kept(Math.max)} %.`;
  }

  const run = latest(async (signal) => {
    controls();
    const asked = request(store, model), past = history();
    own = await runner.sample(asked, signal);
    changed = past ? await runner.sample({ ...asked, history: past }, signal) : own;
    paint();
  }, onError);
  for (const id of ["memory-own", "memory-changed", "memory-difference"]) paintBlank(byId(id), size);
  controls();
  whenNear(byId("memory"), () => {
    const soon = debounced(run, 150);
    store.listen(["class", "seed", "steps", "guidance", "solver", "past", "forget", "pastclass"], () => {
      controls();
      soon();
    });
    store.listen(["look"], paint);
    run();
  });
}
