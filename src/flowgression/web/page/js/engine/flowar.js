// Sampling from FlowAR, scale by scale. A map of scale k is [C, s_k P, s_k P]; its tokens are [s_k^2, P P C].

import { pictureGenerator } from "./random.js";
import { frame, grid, guided, twice, walk } from "./solvers.js";

/** The frames of one picture; see backend.js for the request. */
export async function* sampleScales(model, request) {
  const { manifest } = model, { scales, patch_size: patch, sample: { channels } } = manifest;
  const { num_inference_steps: steps, guidance_scale: scale, maps: given = [], solver } = request;
  if (given.length >= scales.length) throw new Error(`${given.length} maps are given; at least the last of ${scales.length} is drawn`);
  const generator = pictureGenerator(request.seed), depth = patch * patch * channels;
  const noise = scales.map((side) => generator.normal(side * side * depth));
  const maps = given.map((map) => Float32Array.from(map));
  const total = (scales.length - given.length) * (steps + 1);
  let index = 0;
  for (let k = given.length; k < scales.length; k++) {
    const side = scales[k], count = side * side;
    const first = scales.slice(0, k).reduce((sum, s) => sum + s * s, 0);
    const strength = scales.length === 1 ? scale : 1 + ((scale - 1) * k) / (scales.length - 1);
    const rows = strength === 1 ? 1 : 2;
    const semantics = await read(model, maps, request.class_label, rows, first, count);
    const positions = BigInt64Array.from({ length: count }, (_, i) => BigInt(first + i));
    const width = semantics.length / (rows * count);

    const slope = async (x, t) => {
      const tokens = Float32Array.from(x);
      const step = Math.floor(Math.fround(1000 * Math.fround(1 - t))); // what FlowHead sees of the time
      const { velocity } = await model.run("head", {
        tokens: [rows === 2 ? twice(tokens) : tokens, [rows, count, depth]],
        time_step: [new Float32Array(rows).fill(step), [rows]],
        semantics: [semantics, [rows, count, width]],
        positions: [positions, [count]],
      });
      return { velocity: rows === 2 ? guided(velocity, strength) : velocity };
    };
    for await (const at of walk(solver, slope, Float64Array.from(noise[k]), grid(steps))) {
      const [x, velocity] = [at.x, at.velocity].map((tokens) => toMap(tokens, side, patch, channels));
      if (at.done) maps.push(Float32Array.from(x));
      yield frame({ t: at.t, x, velocity }, { index: index++, total, scale: k, done: Boolean(at.done) && k === scales.length - 1 });
    }
  }
}

/** The semantic map of the next scale, for both halves of guidance if there are two rows. */
async function read(model, maps, label, rows, first, count) {
  const { manifest } = model, { scales, patch_size: patch, sample: { channels } } = manifest;
  const inputs = { class_labels: [BigInt64Array.from([label, manifest.null_label].slice(0, rows), BigInt), [rows]] };
  scales.slice(0, -1).forEach((side, k) => {
    const map = maps[k] ?? new Float32Array(channels * (side * patch) ** 2); // not drawn yet, and not read
    inputs[`map${k + 1}`] = [rows === 2 ? twice(map) : map, [rows, channels, side * patch, side * patch]];
  });
  const { semantics } = await model.run("transformer", inputs);
  const tokens = scales.reduce((sum, s) => sum + s * s, 0), width = semantics.length / (rows * tokens);
  const here = new Float32Array(rows * count * width);
  for (let row = 0; row < rows; row++) {
    const from = (row * tokens + first) * width;
    here.set(semantics.subarray(from, from + count * width), row * count * width);
  }
  return here;
}

/** Tokens [s^2, P P C], inside one by row, column and channel -> [C, s P, s P]. */
export function toMap(tokens, side, patch, channels) {
  const map = new tokens.constructor(tokens.length), width = side * patch;
  let at = 0;
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      for (let i = 0; i < patch; i++) {
        for (let j = 0; j < patch; j++) {
          for (let c = 0; c < channels; c++) map[(c * width + row * patch + i) * width + column * patch + j] = tokens[at++];
        }
      }
    }
  }
  return map;
}
