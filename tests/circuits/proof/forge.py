"""Proofs written by hand: files of any content, consistent in what a forger would keep consistent."""

import json

import numpy as np

NAME = {"family": "forged", "sizes": "none", "weights": "none", "formats": "none"}
X = ["x", [], 2, False]


def number(lo, hi, bits):
    return {"lo": lo, "hi": hi, "bits": bits}


TWO_BITS = number(0, 3, [0, 1])


def table(*values):
    return {"function": {"lo": 0, "hi": len(values) - 1, "table": list(values)}}


def cell(operation, parameters, arguments, results, gates=0, **hints):
    found = {"operation": operation, "parameters": parameters, "arguments": arguments, "results": results}
    return found | {"gates": gates} | hints


def model(operations, steps, outputs, inputs=(X,)):
    found = {"name": NAME, "inputs": list(inputs), "operations": operations, "steps": steps}
    return found | {"outputs": [[name, list(shape), values] for name, shape, values in outputs]}


def certificate(claim, cells, calls, outputs):
    found = {"format": "flowgression-certificate-2", "model": claim, "cells": cells, "calls": calls}
    return found | {"outputs": outputs}


def port(name, shape, width, signed=False):
    return {"name": name, "shape": list(shape), "width": width, "signed": signed}


IN, OUT = [port("x", (), 2)], [port("y", (1,), 2)]


def write(folder, inputs, outputs, rows, nodes, proof):
    """rows: (list of (node, weight), thresholds of its gates); nodes: of the output bits; proof: the certificate."""
    folder.mkdir(exist_ok=True)
    bits = sum(int(np.prod(p["shape"], dtype=np.int64)) * p["width"] for p in inputs)
    ptr, idx, weights, gate_row, theta, levels = [0], [], [], [], [], [0] * bits
    for r, (pairs, limits) in enumerate(rows):
        idx += [n for n, _ in pairs]
        weights += [w for _, w in pairs]
        ptr.append(len(idx))
        gate_row += [r] * len(limits)
        theta += limits
        levels += [1 + max((levels[n] for n, _ in pairs), default=0)] * len(limits)
    header = {"format": "flowgression-circuit-1", "num_inputs": bits, "input_ports": inputs}
    arrays = {"row_ptr": ptr, "row_idx": idx, "row_w": weights, "gate_row": gate_row, "theta": theta}
    save(
        folder, header | {"output_ports": outputs, "metadata": {}}, arrays | {"level": levels[bits:], "outputs": nodes}
    )
    put(folder, proof)


def put(folder, proof):
    (folder / "certificate.json").write_text(json.dumps(proof))


def save(folder, header, arrays):
    lists = {name: np.array(values, dtype=np.int64) for name, values in arrays.items()}
    np.savez(folder / "circuit.npz", header=np.array(json.dumps(header)), **lists)
