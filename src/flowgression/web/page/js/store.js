// What is chosen on the page. It lives in the address, so that a link shows what its sender saw.

export const DEFAULTS = {
  class: 7, seed: 1, steps: 16, guidance: 2.5, solver: "euler", time: 1000,
  past: "own", forget: 4, pastclass: 3, look: 50,
  scalesmodel: "", edit: 0, brush: 1,
  finishclass: -1, finishtime: 0.4,
  pictureclass: 0, strength: 0.6,
  letterseed: 1, letterguidance: 1.5, lettersread: 6,
  degree: 4, tau: 2, query: 24,
  circuit: "adder", bits: "", level: -1, gate: 0,
};

/** One value a name, numbers or strings as in DEFAULTS; those that differ from them are the query of the address. */
export class Store {
  #values = { ...DEFAULTS };
  #listeners = [];

  constructor() {
    this.#read();
    addEventListener("popstate", () => {
      const before = { ...this.#values };
      this.#values = { ...DEFAULTS };
      this.#read();
      this.#tell(Object.keys(DEFAULTS).filter((name) => before[name] !== this.#values[name]));
    });
  }

  get(name) {
    return this.#values[name];
  }

  /** Changes some values and tells whoever listens to them. */
  set(changes) {
    const changed = Object.keys(changes).filter((name) => this.#values[name] !== changes[name]);
    Object.assign(this.#values, changes);
    if (changed.length) {
      history.replaceState(null, "", this.link());
      this.#tell(changed);
    }
  }

  /** Calls `action` after a change of one of `names`. */
  listen(names, action) {
    this.#listeners.push([new Set(names), action]);
  }

  /** The address of what is chosen. */
  link() {
    const url = new URL(location.href);
    url.search = "";
    for (const [name, value] of Object.entries(this.#values)) {
      if (value !== DEFAULTS[name]) url.searchParams.set(name, value);
    }
    return url.href;
  }

  #read() {
    const given = new URL(location.href).searchParams;
    for (const [name, usual] of Object.entries(DEFAULTS)) {
      if (!given.has(name)) continue;
      const value = typeof usual === "number" ? Number(given.get(name)) : given.get(name);
      if (typeof value === "string" || Number.isFinite(value)) this.#values[name] = value;
    }
  }

  #tell(changed) {
    for (const [names, action] of this.#listeners) if (changed.some((name) => names.has(name))) action();
  }
}

/** Ties an input or select to a value of the store, and its <output>, if there is one, to `text(value)`. */
export function bind(store, name, element, text = String) {
  const number = typeof DEFAULTS[name] === "number";
  const output = document.getElementById(`${element.id}-out`);
  const show = () => {
    element.value = store.get(name);
    if (output) output.textContent = text(store.get(name));
  };
  element.addEventListener(element.type === "range" ? "input" : "change", () => {
    if (number && !(element.checkValidity() && element.value !== "")) return show();
    store.set({ [name]: number ? Number(element.value) : element.value });
  });
  store.listen([name], show);
  show();
  return show;
}
