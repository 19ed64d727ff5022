// The backend over HTTP: `flowgression serve`, with PyTorch behind it.

const token = takeToken();

/** The server's token: in the address that opens the page, then kept for this tab and this server, out of the address. */
function takeToken() {
  const url = new URL(location.href), given = url.searchParams.get("token");
  try {
    if (given) sessionStorage.setItem("token", given);
    else return sessionStorage.getItem("token");
  } catch {
    // storage is switched off: the token lasts until the page is loaded anew
  }
  if (given) {
    url.searchParams.delete("token");
    history.replaceState(history.state, "", url);
  }
  return given;
}

function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(new URL(path, document.baseURI), { ...options, headers, cache: "no-store" });
}

async function checked(response) {
  if (response.ok) return response;
  let reason = `the server answered ${response.status}`;
  try {
    reason = (await response.json()).error ?? reason;
  } catch {
    // no JSON: the status says what there is to say
  }
  throw new Error(reason);
}

/** Numbers as the server sends them, {shape, data: base64 of little-endian float32}, anywhere in a value. */
export function decoded(value) {
  if (Array.isArray(value)) return value.map(decoded);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.data === "string" && Array.isArray(value.shape)) {
    const bytes = Uint8Array.from(atob(value.data), (c) => c.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  }
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, decoded(each)]));
}

/** The reverse of `decoded`. */
export function encoded(value, shape = null) {
  if (value instanceof Float32Array) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return { shape: shape ?? value.shape ?? [value.length], data: btoa(text) };
  }
  if (Array.isArray(value)) return value.map((each) => encoded(each));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, encoded(each)]));
}

export class RemoteBackend {
  kind = "remote";
  #models;

  constructor(models) {
    this.#models = models;
  }

  /** A backend if the page came from `flowgression serve`, else null. */
  static async find() {
    if (!document.documentElement.dataset.server) return null;
    if (!token) throw new Error("this tab has no token: open the address that flowgression serve printed");
    const response = await checked(await ask("api/models"));
    const body = await response.json();
    return new RemoteBackend(body.models ?? body);
  }

  async models() {
    return this.#models;
  }

  async *sample({ signal, ...request }) {
    const body = JSON.stringify(encoded(request));
    const headers = { "Content-Type": "application/json" };
    const response = await checked(await ask("api/sample", { method: "POST", headers, body, signal }));
    for await (const line of lines(response.body)) {
      const frame = decoded(JSON.parse(line));
      if (frame.error) throw new Error(frame.error);
      yield frame;
    }
  }

  /** A font file of pictures, see backend.js. */
  async font(request) {
    const headers = { "Content-Type": "application/json" };
    const response = await checked(await ask("api/font", { method: "POST", headers, body: JSON.stringify(encoded(request)) }));
    return { bytes: await response.arrayBuffer(), ending: "ttf" };
  }

  async classify(x) {
    const body = JSON.stringify(encoded({ x }));
    const headers = { "Content-Type": "application/json" };
    const response = await checked(await ask("api/classify", { method: "POST", headers, body }));
    const found = await response.json();
    return Array.from(decoded(found.probabilities ?? found));
  }
}

/** The lines of a stream of bytes. */
async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part.trim()) yield part;
    }
    if (rest.trim()) yield rest;
  } finally {
    reader.cancel().catch(() => {}); // the stream has failed or been left: the server stops when nobody reads
  }
}
