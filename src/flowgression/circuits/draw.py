"""Pictures of small circuits: Graphviz DOT text, and an SVG with one column per level."""

from html import escape

import numpy as np

from flowgression.circuits.ir import Circuit
from flowgression.errors import InputError

LARGEST = 400
"""Gates beyond which a picture shows nothing."""
COLUMN, ROW, RADIUS, MARGIN = 120, 26, 8, 30


def check_drawable(gates: int) -> None:
    """Raise InputError for more gates than a picture can show."""
    if gates > LARGEST:
        raise InputError(f"the circuit has {gates:,} gates, only up to {LARGEST} can be drawn: take smaller sizes.")


def to_dot(circuit: Circuit) -> str:
    """Graphviz text: inputs as boxes, gates labelled with their thresholds, edges with weights other than 1."""
    check_drawable(circuit.num_gates)
    lines = ["digraph circuit {", "  rankdir=LR;"]
    lines += [f'  n{i} [shape=box, label="x{i}"];' for i in range(circuit.num_inputs)]
    outputs = set(circuit.outputs.tolist())
    for gate in range(circuit.num_gates):
        node = circuit.num_inputs + gate
        shape = "doublecircle" if node in outputs else "circle"
        lines.append(f'  n{node} [shape={shape}, label="≥{circuit.theta[gate]}"];')
        for source, weight in zip(*circuit.row_of(gate), strict=True):
            label = "" if weight == 1 else f' [label="{weight}"]'
            lines.append(f"  n{source} -> n{node}{label};")
    return "\n".join([*lines, "}"]) + "\n"


def to_svg(circuit: Circuit, title: str = "") -> str:
    """A picture with inputs on the left and level l in column l; negative weights red, outputs filled."""
    check_drawable(circuit.num_gates)
    level = np.concatenate([np.zeros(circuit.num_inputs, dtype=np.int64), circuit.level])
    widest = int(np.bincount(level).max(initial=1))
    place = np.zeros((len(level), 2))
    for column in range(int(level.max(initial=0)) + 1):
        members = np.flatnonzero(level == column)
        place[members, 0] = MARGIN + column * COLUMN
        place[members, 1] = MARGIN + ROW + (np.arange(len(members)) + 0.5) * widest * ROW / max(len(members), 1)
    width, height = place[:, 0].max(initial=0) + MARGIN, 2 * MARGIN + (widest + 1) * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
        f'<text x="{MARGIN}" y="{MARGIN - 8}" font-size="14">{escape(title)}</text>',
    ]
    for gate in range(circuit.num_gates):
        x, y = place[circuit.num_inputs + gate]
        for source, weight in zip(*circuit.row_of(gate), strict=True):
            a, b = place[source]
            colour = "#c33" if weight < 0 else "#999"
            parts.append(
                f'<path d="M{a:.0f} {b:.0f}L{x:.0f} {y:.0f}" stroke="{colour}" stroke-width="0.6" fill="none"/>'
            )
    outputs = set(circuit.outputs.tolist())
    for node, (x, y) in enumerate(place):
        fill = "#bcd" if node in outputs else "white"
        label = "" if node < circuit.num_inputs else str(circuit.theta[node - circuit.num_inputs])
        shape = (
            f'<rect x="{x - 6:.0f}" y="{y - 6:.0f}" width="12" height="12"'
            if node < circuit.num_inputs
            else f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{RADIUS}"'
        )
        parts.append(f'{shape} fill="{fill}" stroke="#333"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + 3:.0f}" font-size="8" text-anchor="middle">{label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
