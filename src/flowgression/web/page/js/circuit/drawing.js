// A circuit on a canvas: level l in column l, inputs on the left. Gates light up once their level is reached.

import { css } from "../theme.js";
import { wires } from "./circuit.js";

const MARGIN = 26;

/** Where every node lies, in [0, 1] x [0, 1]; a circuit's gates are ordered by the mean height of what they read. */
export function layout(circuit) {
  const count = circuit.num_inputs + circuit.theta.length;
  const level = new Int32Array(count);
  level.set(circuit.level, circuit.num_inputs);
  const columns = Array.from({ length: circuit.statistics.depth + 1 }, () => []);
  for (let node = 0; node < count; node++) columns[level[node]].push(node);
  const x = new Float32Array(count), y = new Float32Array(count);
  columns.forEach((members, column) => {
    if (column) {
      const height = new Map(members.map((node) => {
        const read = wires(circuit, node - circuit.num_inputs);
        return [node, read.reduce((sum, [from]) => sum + y[from], 0) / read.length];
      }));
      members.sort((a, b) => height.get(a) - height.get(b) || a - b);
    }
    members.forEach((node, k) => {
      x[node] = column / Math.max(columns.length - 1, 1);
      y[node] = (k + 0.5) / members.length;
    });
  });
  const widest = Math.max(...columns.map((members) => members.length));
  return { x, y, level, widest };
}

/** Draws the circuit with gates up to `reached` evaluated, and the wires of gate `chosen` on top. */
export function draw(canvas, circuit, place, nodes, reached, chosen) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const at = (node) => [MARGIN + place.x[node] * (width - 2 * MARGIN), MARGIN / 2 + place.y[node] * (height - MARGIN)];
  const small = circuit.theta.length < 200;
  const radius = small ? Math.min(9, (height - MARGIN) / place.widest / 2.4) : Math.max(1.1, (height / place.widest) * 0.42);
  const seen = (node) => place.level[node] <= reached;
  const lit = css("lit"), wire = css("wire"), paper = css("paper"), soft = css("soft"), ink = css("ink");
  context.globalAlpha = small ? 1 : 0.16;
  for (let gate = 0; gate < circuit.theta.length; gate++) {
    const to = circuit.num_inputs + gate;
    for (const [from] of wires(circuit, gate)) {
      const on = nodes[from] && seen(from) && place.level[to] <= reached + 1;
      if (on || small) line(context, at(from), at(to), on ? lit : wire, on && small ? 1.2 : 0.6);
    }
  }
  context.globalAlpha = 1;
  const target = circuit.num_inputs + chosen;
  for (const [from, weight] of wires(circuit, chosen)) {
    line(context, at(from), at(target), weight < 0 ? css("down") : css("up"), Math.min(1 + Math.abs(weight) / 2, 4));
  }
  const outputs = new Set(circuit.outputs);
  for (let node = 0; node < nodes.length; node++) {
    const [cx, cy] = at(node), on = nodes[node] && seen(node);
    context.beginPath();
    const square = node < circuit.num_inputs && small;
    square ? context.rect(cx - radius, cy - radius, 2 * radius, 2 * radius) : context.arc(cx, cy, radius, 0, 2 * Math.PI);
    context.fillStyle = on ? lit : small ? paper : wire;
    context.fill();
    if (small || node === target) {
      context.strokeStyle = node === target ? ink : on ? lit : soft;
      context.lineWidth = node === target ? 2.5 : outputs.has(node) ? 2 : 0.8;
      context.stroke();
    }
    if (small && radius >= 6 && node >= circuit.num_inputs) {
      context.fillStyle = on ? "#211f1b" : soft;
      context.font = "9px sans-serif";
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText(String(circuit.theta[node - circuit.num_inputs]), cx, cy + 0.5);
    }
  }
}

/** The gate nearest to a place on the canvas, in its own pixels. */
export function nearest(canvas, circuit, place, px, py) {
  const width = canvas.clientWidth - 2 * MARGIN, height = canvas.clientHeight - MARGIN;
  let best = 0, least = Infinity;
  for (let gate = 0; gate < circuit.theta.length; gate++) {
    const node = circuit.num_inputs + gate;
    const distance = (MARGIN + place.x[node] * width - px) ** 2 + (MARGIN / 2 + place.y[node] * height - py) ** 2;
    if (distance < least) [best, least] = [gate, distance];
  }
  return best;
}

function line(context, [ax, ay], [bx, by], colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(ax, ay);
  context.lineTo(bx, by);
  context.stroke();
}
