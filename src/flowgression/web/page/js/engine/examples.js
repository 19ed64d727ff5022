// Several pictures in view of examples, from ARFlow's graph with its state: what a few letters say of a whole alphabet.
// Letters: K examples, B pictures drawn together, L blocks, A heads, d head width.

import { Generator } from "./random.js";
import { add, grid, guided } from "./solvers.js";

const TOGETHER = 8; // pictures of one call; more would keep the first ones waiting

/**
 * The pictures of `request.class_labels`, in order and a few at a time: {first, pictures, index, total, done}.
 *
 * @param request {examples: [{x: Float32Array [C, H, W], class_label}], class_labels, seed, num_inference_steps,
 *   guidance_scale}. Examples are read without noise, by the half of guidance that knows the class; the other half reads
 *   nothing. Steps read the examples and not each other (history="none"). Euler's method.
 */
export async function* sampleLike(model, request) {
  const { manifest } = model, { channels, size } = manifest.sample, area = channels * size * size;
  const { class_labels: labels, num_inference_steps: steps, guidance_scale: scale, seed, examples } = request;
  const one = manifest.state[0].shape.slice(1), length = one.reduce((a, b) => a * b, 1);
  const seeds = new Generator(seed), times = grid(steps);

  function call(x, t, classes, state) {
    const rows = classes.length;
    return model.run("velocity", {
      x: [x, [rows, channels, size, size]],
      t: [new Float32Array(rows).fill(t), [rows]],
      class_labels: [BigInt64Array.from(classes, BigInt), [rows]],
      state: [state, [rows, ...one]],
    });
  }

  let past = new Float32Array(length);
  for (const { x, class_label } of examples) past = (await call(Float32Array.from(x), 1, [class_label], past)).next_state;

  for (let first = 0; first < labels.length; first += TOGETHER) {
    const some = labels.slice(first, first + TOGETHER), count = some.length;
    const classes = scale === 1 ? some : [...some, ...some.map(() => manifest.null_label)];
    const state = new Float32Array(classes.length * length); // rows of the null half stay zeros
    for (let row = 0; row < count; row++) state.set(past, row * length);
    let x = Float32Array.from(joined(some.map(() => new Generator(seeds.imageSeed()).normal(area))));
    for (let step = 0; step < steps; step++) {
      const both = scale === 1 ? x : joined([x, x]);
      const { velocity } = await call(both, times[step], classes, state);
      x = add(x, scale === 1 ? velocity : guided(velocity, scale), times[step + 1] - times[step]);
    }
    const pictures = some.map((_, row) => x.slice(row * area, (row + 1) * area));
    yield { first, pictures, index: first, total: labels.length, done: first + count >= labels.length };
  }
}

function joined(arrays) {
  const all = new Float32Array(arrays.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of arrays) {
    all.set(each, at);
    at += each.length;
  }
  return all;
}
