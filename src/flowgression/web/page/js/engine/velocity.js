// Sampling from SiT, and from ARFlow with its state. Letters: L blocks, A heads, d head width.

import { pictureGenerator } from "./random.js";
import { add, frame, grid, guided, twice, walk } from "./solvers.js";

/** The frames of one picture; see backend.js for the request. */
export async function* sampleVelocity(model, request) {
  const { manifest } = model, { channels, size } = manifest.sample;
  const { class_label, num_inference_steps: steps, guidance_scale: scale, solver, start, history } = request;
  const noise = pictureGenerator(request.seed).normal(channels * size * size);
  const first = start?.t ?? 0;
  const begin = start ? add(noise.map((z) => (1 - first) * z), start.x, first) : noise;
  const stateful = manifest.state.length > 0, averages = Boolean(manifest.config.average_velocity);
  const rows = scale === 1 ? 1 : 2;
  const empty = stateful ? zeros(manifest.state[0].shape, rows) : null;
  const one = manifest.state[0]?.shape.slice(1);

  async function call(x, t, label, state, end) {
    const inputs = {
      x: [rows === 2 ? twice(x) : x, [rows, channels, size, size]],
      t: [new Float32Array(rows).fill(t), [rows]],
      class_labels: [BigInt64Array.from([label, manifest.null_label].slice(0, rows), BigInt), [rows]],
    };
    if (stateful) inputs.state = [state, [rows, ...one]];
    if (averages) inputs.r = [new Float32Array(rows).fill(end), [rows]];
    const found = await model.run("velocity", inputs);
    const velocity = rows === 2 ? guided(found.velocity, scale) : found.velocity;
    return { velocity, state: found.next_state, decay: found.log_decay };
  }

  const forgetFrom = history?.forget_from ?? Infinity;
  const others = stateful && history?.class_label !== undefined ? pasts(call, begin, first, request, empty) : null;
  let state = empty, left = empty; // what this step reads, and what it leaves for the next
  async function slope(x, t, step, first, end) {
    if (first) state = step >= forgetFrom ? empty : others ? (await others.next()).value : left;
    const found = await call(x, t, class_label, state, end);
    if (!first) return { velocity: found.velocity };
    left = found.state;
    return { velocity: found.velocity, extra: stateful ? { state: shownState(found, one) } : {} };
  }

  const times = grid(steps, first);
  let index = 0;
  for await (const at of walk(solver, slope, begin, times)) {
    yield frame(at, { index: index++, total: steps + 1, done: Boolean(at.done), ...at.extra });
  }
}

/** The state that each step finds in a picture of another class, drawn from the same noise by Euler's method. */
async function* pasts(call, x, first, { history, num_inference_steps: steps }, state) {
  const times = grid(steps, first);
  for (let step = 0; step < steps; step++) {
    yield state;
    const found = await call(x, times[step], history.class_label, state, times[step + 1]);
    x = add(x, found.velocity, times[step + 1] - times[step]);
    state = found.state;
  }
}

/** The class half of a state [rows, L, A, d, d] and of its log-decay [rows, L, A]. */
function shownState({ state, decay }, shape) {
  const [blocks, heads] = shape;
  const size = shape.reduce((a, b) => a * b, 1);
  return { values: state.slice(0, size), shape, decay: decay.slice(0, blocks * heads) };
}

const zeros = (shape, rows) => new Float32Array(shape.slice(1).reduce((a, b) => a * b, rows));
