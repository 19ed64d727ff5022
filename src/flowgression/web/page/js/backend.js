// What runs the models. Two backends have the same interface: local.js (ONNX in this browser) and remote.js (a server).
//
//   await backend.models() -> [{id, name, family, class_names, sample: {channels, size}, scales?, defaults, abilities}]
//   backend.sample({model, class_label, seed, num_inference_steps, guidance_scale, solver, start?, history?, maps?, signal})
//     -> async iterator of frames {index, total, t, x, velocity, predicted, scale?, state?, done?}
//   backend.sample({model, class_labels, examples: [{x, class_label}], seed, num_inference_steps, guidance_scale, signal})
//     -> async iterator of {first, pictures, index, total, done?}: pictures of several classes in view of examples, for
//        models with the ability "examples"
//   await backend.font({name, size, glyphs: [{character, x: Float32Array of [size, size]}]}) -> {bytes, ending}: a font
//   await backend.classify(x) -> probabilities of the ten digits
//
// x, velocity and predicted are Float32Array of [C, H, W], pictures in [-1, 1]; t = 0 is noise and t = 1 data.
//   start    {x, t}: a clean picture that is noised to time t with the seed's noise, and finished from there
//   history  {forget_from: k}: from step k on the state is empty; {class_label: c}: at every step the state is the one
//            that a picture of class c left, drawn from the same noise
//   maps     the maps of FlowAR's first scales, taken as given: [Float32Array [C, s, s], ...]
//   state    {values: Float32Array, shape: [layers, heads, d, d], decay: Float32Array [layers, heads]}: what the step left

import { LocalBackend } from "./local.js";
import { RemoteBackend } from "./remote.js";

/** The server's models if the page came from `flowgression serve`, else those of models/index.json beside the page. */
export async function openBackend() {
  const remote = await RemoteBackend.find();
  return remote ?? (await LocalBackend.open());
}

/** The frames of one picture, each given to `onFrame` as it comes. */
export async function collect(backend, request, onFrame = () => {}) {
  const frames = [];
  for await (const frame of backend.sample(request)) {
    frames.push(frame);
    onFrame(frame, frames);
  }
  return frames;
}

/** A request's result is kept, so that sections which ask for the same picture share it. */
export class Runner {
  #kept = new Map();
  #last = Promise.resolve();

  constructor(backend) {
    this.backend = backend;
  }

  /**
   * Frames of `request`, with the `seconds` that drawing them took; one picture is drawn at a time, in the order of the
   * calls. Rejects with AbortError.
   */
  sample(request, signal, onFrame) {
    const key = JSON.stringify(request, (_, value) => (value instanceof Float32Array ? [...value] : value));
    const kept = this.#kept.get(key);
    if (kept) {
      kept.forEach((frame, i) => onFrame?.(frame, kept.slice(0, i + 1)));
      return Promise.resolve(kept);
    }
    const result = this.#last.then(async () => {
      signal.throwIfAborted();
      const began = performance.now();
      const frames = await collect(this.backend, { ...request, signal }, onFrame);
      signal.throwIfAborted();
      frames.seconds = (performance.now() - began) / 1000;
      if (this.#kept.size > 30) this.#kept.delete(this.#kept.keys().next().value);
      this.#kept.set(key, frames);
      return frames;
    });
    this.#last = result.catch(() => {}); // whoever asked for it hears of the error; the next one begins all the same
    return result;
  }

  font(request) {
    return this.backend.font(request);
  }

  classify(x) {
    return this.backend.classify(x);
  }
}

/** `work(signal)` that a later call cancels; what it throws, other than being cancelled, goes to `onError`. */
export function latest(work, onError) {
  let controller;
  return async () => {
    controller?.abort();
    const mine = (controller = new AbortController());
    try {
      await work(mine.signal);
    } catch (error) {
      if (!mine.signal.aborted) onError(error);
    }
  };
}
