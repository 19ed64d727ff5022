"""Circuits and claims evaluated from the files of a proof, by code that shares nothing with the checker or the package.

Gates one by one on int64 (after proof with Python's integers that no sum leaves it), the claim's steps on Python's
integers, formulas written from docs/circuits-format.md.
"""

import json
from fractions import Fraction
from math import floor

import numpy as np


def read(folder):
    """(header, arrays, certificate) as they are."""
    with np.load(folder / "circuit.npz") as data:
        arrays = {name: data[name] for name in data.files}
    return json.loads(str(arrays.pop("header"))), arrays, json.loads((folder / "certificate.json").read_text())


def every_input(bits, generator, most=12, samples=1000):
    """All inputs up to `most` bits, else random ones, a tenth of them nearly empty or nearly full."""
    if bits <= most:
        return (np.arange(1 << bits)[:, None] >> np.arange(bits) & 1).astype(np.int64)
    share = generator.choice([0.5] * 8 + [0.05, 0.95], samples)
    return (generator.random((samples, bits)) < share[:, None]).astype(np.int64)


def gates(arrays, inputs):
    """int64 [samples, nodes]: the value of every node."""
    ptr, idx, weights = (arrays[name].tolist() for name in ("row_ptr", "row_idx", "row_w"))
    row_of, theta = arrays["gate_row"].tolist(), arrays["theta"].tolist()
    nodes = np.zeros((inputs.shape[1] + len(theta), len(inputs)), dtype=np.int64)
    nodes[: inputs.shape[1]] = inputs.T
    for gate, (row, limit) in enumerate(zip(row_of, theta, strict=True)):
        entries = range(ptr[row], ptr[row + 1])
        assert abs(limit) < 1 << 60
        assert sum(abs(weights[e]) for e in entries) < 1 << 60
        total = np.zeros(len(inputs), dtype=np.int64)
        for e in entries:
            total += weights[e] * nodes[idx[e]]
        nodes[inputs.shape[1] + gate] = total >= limit
    return nodes.T


def decode(bits, signed):
    """[samples, width] of 0 and 1, low bit first -> Python integers."""
    places = [1 << j for j in range(bits.shape[1])]
    if signed:
        places[-1] = -places[-1]
    return [sum(p for p, b in zip(places, row, strict=True) if b) for row in bits.tolist()]


def port_values(ports, bits):
    """{name: for each sample a list of integers}."""
    found, start = {}, 0
    for port in ports:
        size, width = int(np.prod(port["shape"], dtype=np.int64)), port["width"]
        elements = [decode(bits[:, start + k * width : start + (k + 1) * width], port["signed"]) for k in range(size)]
        start += size * width
        found[port["name"]] = [list(row) for row in zip(*elements, strict=True)]
    assert start == bits.shape[1]
    return found


def claimed(model, inputs, fresh=()):
    """Outputs of a claim for one sample: {name: list}."""
    values = [v for name, *_ in model["inputs"] for v in inputs[name]]
    rest = iter(fresh)
    for step in model["steps"]:
        if isinstance(step, dict):
            values.append(next(rest))
        elif isinstance(step, list):
            name, parameters = model["operations"][step[0]]
            arguments = [[values[i] for i in a] if isinstance(a, list) else values[a] for a in step[1:]]
            values.extend(_apply(name, parameters, arguments))
        else:
            values.append(step)
    return {name: [values[i] for i in numbers] for name, _, numbers in model["outputs"]}


def _rounded(x, width):
    """To the nearest integer, halves up, then into the width."""
    x = floor(Fraction(x) + Fraction(1, 2))
    return x if width is None else max(-(2 ** (width - 1)), min(2 ** (width - 1) - 1, x))


def _function(f, x):
    assert f["lo"] <= x <= f["hi"]
    if "table" in f:
        return f["table"][x - f["lo"]]
    value = sum(c * (x - f["centre"]) ** k for k, c in enumerate(f["coefficients"]))
    return _rounded(Fraction(value, 2 ** f["shift"]), None)


def _exponent(x):
    """e of x = 2^e."""
    assert x > 0
    assert x & (x - 1) == 0
    return len(bin(x)) - 3


def _apply(name, p, a):
    width, scale = p.get("width"), Fraction(1, 2 ** p.get("shift", 0))
    if name == "dot":
        bias = a[2] * 2 ** p["bias_shift"] if len(a) > 2 else 0
        return [_rounded((sum(x * y for x, y in zip(a[0], a[1], strict=True)) + bias) * scale, width)]
    if name == "fused":
        return [_rounded(a[0] * a[1] * scale + a[2], width)]
    if name == "mix":
        return [_rounded(sum(c * x for c, x in zip(p["coefficients"], a, strict=True)) * scale, width)]
    if name == "total":
        return [sum(a[0]) + p["plus"]]
    if name == "square_sum":
        return [_rounded((sum(x * x for x in a[0]) + p["plus"]) * scale, width)]
    if name == "centred_square_sum":
        return [len(a[0]) * (len(a[0]) * sum(x * x for x in a[0]) - a[1] ** 2) + 1]
    if name == "ceiling":
        return [max(floor(x * scale) for x in a[0]) + 1]
    if name == "at_least_one":
        return [a[0] if a[0] > 1 else 1]
    if name == "apply":
        return [_function(p["function"], a[0])]
    if name == "inverse":
        assert a[0] >= 1
        e = 0
        while 2 ** (p["root"] * (e + 1)) <= a[0]:
            e += 1
        return [_function(p["function"], floor(Fraction(a[0] * 2 ** p["bits"], 2 ** (p["root"] * e)))), 2**e]
    if name == "rescale":
        return [_rounded(Fraction(a[0] * a[1], 2 ** p["shift"] << _exponent(a[2])), width)]
    if name == "one_hot":
        assert a[0] >= 0
        return [2 ** (p["size"] - 1 if a[0] >= p["size"] else a[0])]
    assert name == "select"
    return [a[1][_exponent(a[0])]]


def mismatches(folder, generator):
    """(samples on which circuit and claim differ, samples tried). Fresh arguments are tried at legal values; there must
    be some.
    """
    header, arrays, certificate = read(folder)
    inputs, model = every_input(header["num_inputs"], generator), certificate["model"]
    fresh = _fresh_values(certificate, header, inputs, generator)
    nodes = gates(arrays, inputs)
    given = port_values(header["input_ports"], inputs)
    found = port_values(header["output_ports"], nodes[:, arrays["outputs"]])
    wrong = 0
    for s in range(len(inputs)):
        wanted = claimed(model, {name: rows[s] for name, rows in given.items()}, [values[s] for values in fresh])
        wrong += wanted != {name: rows[s] for name, rows in found.items()}
    return wrong, len(inputs)


def _fresh_values(certificate, header, inputs, generator):
    """Values of the fresh arguments on each sample; their bits in `inputs` are drawn anew among the legal ones."""
    claims = [step for step in certificate["model"]["steps"] if isinstance(step, dict)]
    values = []
    for claim, (nodes, bits, signed) in zip(claims, _fresh_forms(certificate, header), strict=True):
        rows = (np.arange(1 << len(nodes))[:, None] >> np.arange(len(nodes)) & 1).astype(np.int64)
        column = {n: rows[:, k] for k, n in enumerate(nodes)}
        zero = np.zeros(len(rows), dtype=np.int64)
        shown = np.stack([zero + const + sum(w * column[n] for n, w in form.items()) for const, form in bits], 1)
        value = decode(shown == 1, signed)
        legal = ((shown == 0) | (shown == 1)).all(1) & np.array([claim["lo"] <= v <= claim["hi"] for v in value])
        if claim["one_hot"]:
            legal &= shown.sum(1) == 1
        assert legal.any(), "no legal argument"
        chosen = generator.choice(np.flatnonzero(legal), len(inputs))
        inputs[:, nodes] = rows[chosen]
        values.append([value[c] for c in chosen])
    return values


def _fresh_forms(certificate, header):
    """(nodes, bits as (const, {node: weight}), whether the last bit weighs less than zero) of each fresh argument.

    Numbers are followed through the calls.
    """
    numbers, start = [], 0
    for port in header["input_ports"][: len(certificate["model"]["inputs"])]:
        for _ in range(int(np.prod(port["shape"], dtype=np.int64))):
            numbers.append(([(0, {start + j: 1}) for j in range(port["width"])], port["signed"]))
            start += port["width"]
    gate = header["num_inputs"]
    for call in certificate["calls"]:
        if isinstance(call, dict):
            bits, signed = numbers[call["like"]]
            renamed = {}
            for _, form in bits:
                for n in form:
                    renamed.setdefault(n, start + len(renamed))
            bits = [(const, {renamed[n]: w for n, w in form.items()}) for const, form in bits]
            numbers.append((bits, signed))
            yield list(renamed.values()), bits, signed
            start += len(renamed)
            continue
        cell = certificate["cells"][call[0]]
        place = {}
        leaves = [x for a in cell["arguments"] for x in (a if isinstance(a, list) else [a]) if isinstance(x, dict)]
        for x, number in zip(leaves, call[1:], strict=True):
            for bit, (_, form) in zip(x["bits"], numbers[number][0], strict=True):
                place |= dict(zip(_form(bit)[1], form, strict=True))
        for x in cell["results"]:
            if isinstance(x, dict):
                forms = [_form(bit) for bit in x["bits"]]
                count = len(place)
                moved = [(c, {place[n] if n < count else gate + n - count: w for n, w in f.items()}) for c, f in forms]
                numbers.append((moved, x["lo"] < 0))
        gate += cell["gates"]


def _form(bit):
    if isinstance(bit, int):
        return (0, {bit: 1}) if bit >= 0 else (1, {-1 - bit: -1})
    return bit[0], dict(zip(bit[1::2], bit[2::2], strict=True))
