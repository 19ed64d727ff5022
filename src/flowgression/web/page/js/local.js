// The backend in this browser: a worker runs the exported models, so that the page stays quick.

export class LocalBackend {
  kind = "local";
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  #waiting = new Map(); // number of a request -> what to do with its answers
  #count = 0;
  #models = [];

  constructor() {
    this.#worker.addEventListener("message", ({ data }) => this.#waiting.get(data.id)?.(data));
    this.#worker.addEventListener("error", (event) => {
      const message = event.message || "the worker that runs the models did not start";
      for (const answer of this.#waiting.values()) answer({ error: message });
    });
  }

  /** With the models of models/index.json. */
  static async open() {
    const backend = new LocalBackend();
    backend.#models = await backend.#ask("models", { base: new URL("models/", document.baseURI).href });
    return backend;
  }

  async models() {
    return this.#models;
  }

  /** Reads an export directory from files that the user gave; returns its model. */
  async add(files) {
    const model = await this.#ask("add", { files });
    this.#models.push(model);
    return model;
  }

  async classify(x) {
    return this.#ask("classify", { x: Float32Array.from(x) });
  }

  /** A font file of pictures, see backend.js. */
  async font({ name, size, glyphs }) {
    const { buildFont } = await import("./typeface/font.js");
    const opentype = await import("../vendor/opentype/opentype.min.mjs");
    return { bytes: buildFont(opentype, glyphs, size, name), ending: "otf" };
  }

  async *sample({ signal, ...request }) {
    const id = ++this.#count, frames = [];
    let wake = () => {};
    this.#waiting.set(id, (answer) => {
      frames.push(answer);
      wake();
    });
    const cancel = () => {
      this.#worker.postMessage({ id, kind: "cancel" });
      frames.push({ error: "cancelled" });
      wake();
    };
    signal?.addEventListener("abort", cancel);
    try {
      this.#worker.postMessage({ id, kind: "sample", request });
      for (;;) {
        while (!frames.length) await new Promise((resolve) => (wake = resolve));
        const { frame, error } = frames.shift();
        signal?.throwIfAborted();
        if (error) throw new Error(error);
        yield frame;
        if (frame.done) return;
      }
    } finally {
      signal?.removeEventListener("abort", cancel);
      this.#waiting.delete(id);
      this.#worker.postMessage({ id, kind: "cancel" }); // nothing, if it is done
    }
  }

  #ask(kind, content) {
    const id = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, ({ result, error }) => {
        this.#waiting.delete(id);
        error ? reject(new Error(error)) : resolve(result);
      });
      this.#worker.postMessage({ id, kind, ...content });
    });
  }
}
