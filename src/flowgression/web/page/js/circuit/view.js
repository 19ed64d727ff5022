// The section on circuits: input bits to flip, gates that light up level by level, and one gate looked at.

import { byId, fillNumbers, make } from "../dom.js";
import { bind } from "../store.js";
import { onTheme } from "../theme.js";
import { decode, evaluate, results, wires } from "./circuit.js";
import { draw, layout, nearest } from "./drawing.js";

const PAUSE = 350; // milliseconds a level, at most
const FIRST = { adder: [5, 3, 7, 1, 6], product: [5, 7], attention: [4, -3, 5, -2, -8, 7] };

/** Shows the circuits of data/circuits.json. */
export async function setUpCircuits(store) {
  const response = await fetch(new URL("../../data/circuits.json", import.meta.url));
  if (!response.ok) throw new Error(`data/circuits.json: ${response.status}`);
  const circuits = await response.json();
  const canvas = byId("circuit-canvas");
  let circuit, place, bits, nodes, timer;

  const reached = () => {
    const depth = circuit.statistics.depth, level = store.get("level");
    return level < 0 || level > depth ? depth : level;
  };

  function choose() {
    const name = Object.hasOwn(circuits, store.get("circuit")) ? store.get("circuit") : "adder";
    if (circuit === circuits[name]) return;
    circuit = circuits[name];
    place = layout(circuit);
    byId("level").max = circuit.statistics.depth;
    byId("gate").max = circuit.theta.length - 1;
    const given = store.get("bits");
    bits = given.length === circuit.num_inputs && /^[01]*$/.test(given) ? [...given].map(Number) : encode(circuit, FIRST[name]);
    buildInputs();
  }

  function buildInputs() {
    const rows = decode(circuit.input_ports, bits).map((number) => {
      const buttons = Array.from({ length: number.width }, (_, j) => {
        const bit = number.start + number.width - 1 - j;
        return make("button", { type: "button", "data-bit": bit, onclick: () => flip(bit) });
      });
      return make("div", { class: "bit-row", role: "group", "aria-label": number.name }, make("span"), ...buttons);
    });
    byId("circuit-inputs").replaceChildren(...rows);
  }

  function flip(bit) {
    bits[bit] = 1 - bits[bit];
    store.set({ bits: bits.join("") });
    show();
  }

  function show() {
    nodes = evaluate(circuit, bits);
    const inputs = decode(circuit.input_ports, bits);
    [...byId("circuit-inputs").children].forEach((row, k) => {
      const value = inputs[k].value / 2 ** circuit.fraction;
      row.firstChild.textContent = `${inputs[k].name} = ${value}`;
      for (const button of row.querySelectorAll("button")) {
        const on = bits[Number(button.dataset.bit)];
        const weight = Number(button.dataset.bit) - inputs[k].start - circuit.fraction;
        button.textContent = String(on);
        button.setAttribute("aria-pressed", String(Boolean(on)));
        button.setAttribute("aria-label", `${inputs[k].name}, bit of weight ${2 ** weight}: ${on}`);
      }
    });
    byId("level").value = reached();
    byId("level-out").textContent = `${reached()} of ${circuit.statistics.depth}`;
    paint();
    const outputs = results(circuit, nodes).map((each) => each.value / 2 ** circuit.fraction);
    const done = reached() === circuit.statistics.depth;
    const s = circuit.statistics;
    fillNumbers(byId("circuit-numbers"), [
      ["Result", done ? outputs.join(", ") : "on its way"],
      ["By ordinary arithmetic", ordinary(store.get("circuit"), inputs.map((each) => each.value / 2 ** circuit.fraction))],
      ["Depth", String(s.depth)],
      ["Gates", s.gates.toLocaleString("en")],
      ["Wires", s.wires.toLocaleString("en")],
      ["Largest weight", String(s.largest_weight)],
    ]);
    canvas.setAttribute("aria-label", `${s.gates} gates in ${s.depth} levels; result ${outputs.join(", ")}`);
  }

  function paint() {
    const gate = Math.min(Math.max(store.get("gate"), 0), circuit.theta.length - 1);
    draw(canvas, circuit, place, nodes, reached(), gate);
    byId("gate").value = gate;
    byId("gate-text").textContent = describe(circuit, nodes, gate);
  }

  function play() {
    clearInterval(timer);
    const depth = circuit.statistics.depth;
    store.set({ level: 0 });
    timer = setInterval(() => {
      if (reached() >= depth) return clearInterval(timer);
      store.set({ level: reached() + 1 === depth ? -1 : reached() + 1 });
    }, Math.min(PAUSE, 6000 / depth));
  }

  bind(store, "circuit", byId("circuit"));
  byId("circuit").addEventListener("change", () => store.set({ bits: "", level: -1, gate: 0 }));
  byId("level").addEventListener("input", () => {
    clearInterval(timer);
    const level = Number(byId("level").value);
    store.set({ level: level === circuit.statistics.depth ? -1 : level });
  });
  byId("gate").addEventListener("change", () => store.set({ gate: Math.round(Number(byId("gate").value)) || 0 }));
  byId("circuit-play").addEventListener("click", play);
  byId("circuit-random").addEventListener("click", () => {
    bits = bits.map(() => Number(Math.random() < 0.5));
    store.set({ bits: bits.join("") });
    show();
  });
  canvas.addEventListener("click", (event) => {
    store.set({ gate: nearest(canvas, circuit, place, event.offsetX, event.offsetY) });
  });
  store.listen(["circuit", "level"], () => {
    choose();
    show();
  });
  store.listen(["gate"], () => paint());
  onTheme(paint);
  choose();
  show();
  new ResizeObserver(() => paint()).observe(canvas);
}

/** Numbers as the input bits of a circuit, in two's complement. */
function encode(circuit, numbers) {
  const places = decode(circuit.input_ports, new Uint8Array(circuit.num_inputs));
  return places.flatMap((port, k) => Array.from({ length: port.width }, (_, j) => (numbers[k] >> j) & 1));
}

/** The inequality of a gate in letters, with what it reads now. */
function describe(circuit, nodes, gate) {
  const name = (node) => (node < circuit.num_inputs ? `x${node}` : `g${node - circuit.num_inputs}`);
  const read = wires(circuit, gate);
  const shown = read.slice(0, 12).map(([node, weight], k) => {
    const sign = weight < 0 ? "−" : k ? "+" : "";
    return `${sign}${k ? " " : ""}${Math.abs(weight) === 1 ? "" : `${Math.abs(weight)}·`}${name(node)}`;
  });
  const rest = read.length > 12 ? ` + … (${read.length} in all)` : "";
  const sum = read.reduce((total, [node, weight]) => total + weight * nodes[node], 0);
  const threshold = circuit.theta[gate];
  const answer = nodes[circuit.num_inputs + gate];
  return `g${gate} = [ ${shown.join(" ")}${rest} ≥ ${threshold} ]   now ${sum} ≥ ${threshold}: ${answer ? "yes, 1" : "no, 0"}`;
}

/** What the circuit should say, from numbers. */
function ordinary(name, x) {
  if (name === "product") return String(x[0] * x[1]);
  if (name !== "attention") return String(x.reduce((a, b) => a + b, 0));
  const [q, k, v] = [x.slice(0, 2), x.slice(2, 4), x.slice(4, 6)];
  return q.map((query) => {
    const weights = k.map((key) => Math.exp(query * key));
    const total = weights[0] + weights[1];
    return ((weights[0] * v[0] + weights[1] * v[1]) / total).toFixed(3);
  }).join(", ");
}
