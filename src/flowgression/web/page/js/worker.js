// The worker of local.js: ONNX Runtime's WebAssembly in one thread, and the models on it.

import * as runtime from "../vendor/ort/ort.wasm.min.mjs";
import { openModel } from "./engine/model.js";

runtime.env.wasm.numThreads = 1;
runtime.env.wasm.wasmPaths = new URL("../vendor/ort/", import.meta.url).href;

const models = new Map(); // id -> {about, sample}
const cancelled = new Set();
let classifier = null;
let base = "";

async function bytesOf(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

const tasks = {
  async models(request) {
    base = request.base;
    const names = JSON.parse(new TextDecoder().decode(await bytesOf(`${base}index.json`)));
    const opened = await Promise.all(names.map((name) => openModel(runtime, (file) => bytesOf(`${base}${name}/${file}`), name)));
    for (const model of opened) models.set(model.about.id, model);
    return opened.map((model) => model.about);
  },

  async add({ files }) {
    const named = new Map(files.map((file) => [file.name, file]));
    const read = async (name) => {
      if (!named.has(name)) throw new Error(`${name} is missing among these files`);
      return new Uint8Array(await named.get(name).arrayBuffer());
    };
    const model = await openModel(runtime, read);
    model.about.id = `own-${models.size}-${model.about.name}`;
    models.set(model.about.id, model);
    return model.about;
  },

  async classify({ x }) {
    classifier ??= bytesOf(`${base}classifier.onnx`).then((bytes) => runtime.InferenceSession.create(bytes));
    const found = await (await classifier).run({ pixels: new runtime.Tensor("float32", x, [1, 1, 28, 28]) });
    return [...found.probabilities.data];
  },
};

/** Lets messages in: a run of a graph blocks the worker, and a request to cancel would wait for the last one. */
const breathe = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    resolve();
  };
  port2.postMessage(null);
});

async function sample(id, request) {
  const model = models.get(request.model);
  if (!model) throw new Error(`there is no model ${request.model}`);
  for await (const frame of model.sample(request)) {
    if (cancelled.delete(id)) return;
    postMessage({ id, frame });
    await breathe();
  }
}

addEventListener("message", async ({ data: { id, kind, request, ...content } }) => {
  if (kind === "cancel") return cancelled.add(id);
  try {
    if (kind === "sample") await sample(id, request);
    else postMessage({ id, result: await tasks[kind](content) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
});
