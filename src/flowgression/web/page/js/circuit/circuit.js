// Threshold circuits as the package exports them: CSR rows shared by the gates of a bank, gates in topological order.
// Node i is input i for i < num_inputs, else gate i - num_inputs. A gate is [sum w x >= theta].

/** Values of all nodes, 0 or 1, for the given input bits. */
export function evaluate(circuit, inputs) {
  const { num_inputs, row_ptr, row_idx, row_w, gate_row, theta } = circuit;
  const nodes = new Uint8Array(num_inputs + theta.length);
  nodes.set(inputs);
  let row = -1, sum = 0;
  for (let gate = 0; gate < theta.length; gate++) {
    if (gate_row[gate] !== row) {
      row = gate_row[gate];
      sum = 0;
      for (let edge = row_ptr[row]; edge < row_ptr[row + 1]; edge++) sum += row_w[edge] * nodes[row_idx[edge]];
    }
    nodes[num_inputs + gate] = sum >= theta[gate] ? 1 : 0;
  }
  return nodes;
}

/** [node, weight] pairs that a gate reads. */
export function wires(circuit, gate) {
  const row = circuit.gate_row[gate], pairs = [];
  for (let edge = circuit.row_ptr[row]; edge < circuit.row_ptr[row + 1]; edge++) {
    pairs.push([circuit.row_idx[edge], circuit.row_w[edge]]);
  }
  return pairs;
}

/** The numbers of ports whose bits are given one after the other, low bit first; two's complement if signed. */
export function decode(ports, bits) {
  const numbers = [];
  let start = 0;
  for (const port of ports) {
    const count = port.shape.reduce((a, b) => a * b, 1);
    for (let k = 0; k < count; k++, start += port.width) {
      let value = 0;
      for (let j = 0; j < port.width; j++) {
        const weight = port.signed && j === port.width - 1 ? -(2 ** j) : 2 ** j;
        value += weight * bits[start + j];
      }
      numbers.push({ name: count > 1 ? `${port.name}${subscript(k + 1)}` : port.name, value, start, width: port.width });
    }
  }
  return numbers;
}

/** The numbers at a circuit's output. */
export function results(circuit, nodes) {
  return decode(circuit.output_ports, circuit.outputs.map((node) => nodes[node]));
}

const subscript = (k) => [...String(k)].map((c) => "₀₁₂₃₄₅₆₇₈₉"[c]).join("");
