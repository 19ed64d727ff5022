// An export directory: its manifest, checked, and its graphs as sessions of ONNX Runtime, made when they are first used.

const FORMAT = "flowgression-export", VERSION = 1;

export class Export {
  #sessions = new Map();

  /**
   * @param runtime onnxruntime-web or onnxruntime-node
   * @param read (name of a file) -> its bytes as Uint8Array
   */
  static async open(runtime, read) {
    const manifest = JSON.parse(new TextDecoder().decode(await read("manifest.json")));
    if (manifest.format !== FORMAT || manifest.version !== VERSION) {
      throw new Error(`manifest.json is of format ${manifest.format}, version ${manifest.version}; expected ${FORMAT}, ${VERSION}`);
    }
    if ((manifest.file_format ?? "onnx") !== "onnx") {
      throw new Error(`this export holds ${manifest.file_format} programs; the page runs ONNX: flowgression export --format onnx`);
    }
    return new Export(runtime, read, manifest);
  }

  constructor(runtime, read, manifest) {
    Object.assign(this, { runtime, read, manifest });
  }

  /** Runs a graph on {name: array or [array, shape]}; returns {name: Float32Array}. */
  async run(name, inputs) {
    if (!Object.hasOwn(this.manifest.graphs, name)) throw new Error(`manifest.json has no graph ${name}`);
    const session = await this.#session(name), feeds = {};
    for (const { name: input, dtype } of this.manifest.graphs[name].inputs) {
      if (!Object.hasOwn(inputs, input)) throw new Error(`the graph ${name} asks for ${input}, which no model of ours has`);
      const [data, shape] = inputs[input];
      feeds[input] = new this.runtime.Tensor(dtype, data, shape);
    }
    const results = await session.run(feeds);
    return Object.fromEntries(Object.entries(results).map(([key, tensor]) => [key, tensor.data]));
  }

  #session(name) {
    if (!this.#sessions.has(name)) this.#sessions.set(name, this.#load(name));
    return this.#sessions.get(name);
  }

  async #load(name) {
    const graph = this.manifest.graphs[name];
    const bytes = await this.read(graph.file);
    if (globalThis.crypto?.subtle) { // missing where the page came over plain HTTP from another computer
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
      const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      if (found !== graph.sha256) throw new Error(`${graph.file} is not the file that the manifest describes`);
    }
    return this.runtime.InferenceSession.create(bytes, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  }
}
