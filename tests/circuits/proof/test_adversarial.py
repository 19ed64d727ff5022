"""Attempts to fool the checker: wrong gates, wrong wires, wrong certificates. Whatever it accepts must be right."""

import copy
import dataclasses
from collections import Counter

import numpy as np
import pytest

from flowgression.circuits import layer_program, load
from flowgression.circuits.certify import certify
from flowgression.circuits.compile import Precision
from flowgression.circuits.proof.cells import RULES, prove_cell
from flowgression.circuits.proof.certificate import read_certificate
from flowgression.circuits.proof.checker import check, check_folder
from flowgression.circuits.proof.files import read_circuit, read_json_file
from flowgression.circuits.proof.netlist import Net
from flowgression.circuits.proof.schema import Rejected
from flowgression.circuits.proof.wiring import Wiring
from tests.circuits.proof.cases import every_operation, legal_inputs, results


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """Distinct cells of every operation, constants wired in and as inputs."""
    found = []
    for wired in (True, False):
        folder = tmp_path_factory.mktemp("all")
        certify(every_operation(), Precision(5), folder, wired=wired)
        assert check_folder(folder).calls > 0
        certificate = read_certificate(read_json_file(folder / "certificate.json"))
        wiring = Wiring(read_circuit(folder / "circuit.npz"), certificate)
        found += [form.cell for form in wiring.first_calls() if len(form.theta)]
    return found


def mutant(net: Net, generator: np.random.Generator) -> Net | None:
    """The gates with one change: a threshold, a weight, a wire moved or removed."""
    gate = int(generator.integers(len(net.theta)))
    rows, theta, row = [dict(r) for r in net.rows], list(net.theta), net.gate_row[gate]
    node = int(generator.choice(list(rows[row])))
    kind = generator.integers(5)
    if kind < 2:
        theta[gate] += 1 - 2 * int(kind)
    elif kind == 2:
        rows[row][node] += int(generator.choice([-1, 1]))
    elif kind == 3:
        other = int(generator.integers(net.num_inputs + net.gate_row.index(row)))
        if other in rows[row]:
            return None
        rows[row] = {other if n == node else n: w for n, w in rows[row].items()}
    else:
        del rows[row][node]
    return Net(net.num_inputs, rows, net.gate_row, theta)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_mutants_of_gates_are_rejected_or_equivalent(forms, count):
    generator = np.random.default_rng(count)
    operations = sorted(RULES)
    assert {cell.operation for cell in forms} == set(operations)
    judged, tried = Counter(), 0
    while tried < count:
        operation = operations[tried % len(operations)]
        cells = [cell for cell in forms if cell.operation == operation]
        cell = cells[generator.integers(len(cells))]
        net = mutant(cell.net, generator)
        if net is None:
            continue
        tried += 1
        try:
            prove_cell(cell._replace(net=net))
        except Rejected:
            judged["rejected"] += 1
            continue
        judged["accepted"] += 1
        known = legal_inputs(cell, generator)
        right, found = results(cell, cell.net, known), results(cell, net, known)
        assert all(np.array_equal(a, b) for a, b in zip(right, found, strict=True)), (operation, cell.parameters)
    assert judged["rejected"] > 0.9 * count


@pytest.fixture(scope="module")
def attention(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention")
    certify(layer_program("attention", 2, 2), Precision(4), folder)
    return folder, load(folder / "circuit.npz"), read_json_file(folder / "certificate.json")


def verdict(circuit, certificate, folder):
    """Check a changed circuit under a certificate that names it. Raises Rejected."""
    circuit.save(folder / "circuit.npz")
    return check(read_circuit(folder / "circuit.npz"), certificate)


@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_calls_that_swap_their_inputs_are_rejected(attention, tmp_path, count):
    """Circuit and certificate changed consistently: only the model tells."""
    _, circuit, certificate = attention
    generator, swapped = np.random.default_rng(0), 0
    places = np.cumsum([0, *(certificate["cells"][form]["gates"] for form, *_ in certificate["calls"])])
    made = np.cumsum([32 // 4, *(_numbers_made(certificate["cells"][c[0]]) for c in certificate["calls"])])
    while swapped < count:
        i, j = sorted(generator.integers(len(certificate["calls"]), size=2))
        a, b = certificate["calls"][i], certificate["calls"][j]
        if a[0] != b[0] or a == b or max(b[1:]) >= made[i]:
            continue
        changed = copy.deepcopy(certificate)
        changed["calls"][i], changed["calls"][j] = b, a
        idx = circuit.row_idx.copy()
        size = certificate["cells"][a[0]]["gates"]
        rows = [circuit.gate_row[[places[k], places[k] + size - 1]] + [0, 1] for k in (i, j)]
        spans = [slice(circuit.row_ptr[r[0]], circuit.row_ptr[r[1]]) for r in rows]
        starts = [circuit.num_inputs + places[k] for k in (i, j)]
        first, second = circuit.row_idx[spans[0]], circuit.row_idx[spans[1]]
        outer = first < starts[0]
        assert np.array_equal(outer, second < starts[1])
        idx[spans[0]], idx[spans[1]] = np.where(outer, second, first), np.where(outer, first, second)
        level = _levels(circuit, idx)
        swapped += 1
        with pytest.raises(Rejected, match="not the model's expression"):
            verdict(dataclasses.replace(circuit, row_idx=idx, level=level), changed, tmp_path)


def _numbers_made(form):
    return sum(type(result) is dict for result in form["results"])


def _levels(circuit, idx):
    levels = np.zeros(circuit.num_inputs + circuit.num_gates, dtype=np.int32)
    for gate, row in enumerate(circuit.gate_row):
        span = slice(circuit.row_ptr[row], circuit.row_ptr[row + 1])
        levels[circuit.num_inputs + gate] = 1 + levels[idx[span]].max(initial=0)
    return levels[circuit.num_inputs :]


@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_permuted_outputs_and_ports_are_rejected(tmp_path, count):
    """On a layer of the attention's shape, which is checked faster."""
    certify(layer_program("linear", 2, 2), Precision(4), tmp_path)
    circuit, certificate = load(tmp_path / "circuit.npz"), read_json_file(tmp_path / "certificate.json")
    generator = np.random.default_rng(1)
    for _ in range(count):
        i, j = generator.choice(len(circuit.outputs), 2, replace=False)
        outputs = circuit.outputs.copy()
        outputs[[i, j]] = outputs[[j, i]]
        if outputs[i] == outputs[j]:  # one node for both bits: nothing was permuted
            continue
        with pytest.raises(Rejected, match="output"):
            verdict(dataclasses.replace(circuit, outputs=outputs), certificate, tmp_path)
    (port,) = circuit.output_ports
    for wrong in ({"signed": False}, {"shape": (8,), "name": "z"}, {"shape": (4, 1), "width": 8}):
        changed = dataclasses.replace(circuit, output_ports=(dataclasses.replace(port, **wrong),))
        with pytest.raises(Rejected):
            verdict(changed, certificate, tmp_path)
    (port,) = circuit.input_ports
    for wrong in ({"signed": False}, {"shape": (2, 4)}, {"shape": (8, 2), "width": 2}, {"name": "q"}):
        changed = dataclasses.replace(circuit, input_ports=(dataclasses.replace(port, **wrong),))
        with pytest.raises(Rejected, match="other inputs"):
            verdict(changed, certificate, tmp_path)


@pytest.mark.parametrize("count", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_edits_of_the_circuit_alone_are_rejected(attention, tmp_path, count):
    """Even where the certificate names the edited circuit as its own."""
    _, circuit, certificate = attention
    generator = np.random.default_rng(2)
    for name in ("row_ptr", "row_idx", "row_w", "gate_row", "theta", "level"):
        for _ in range(count):
            array = getattr(circuit, name).copy()
            array[generator.integers(len(array))] += int(generator.choice([-1, 1]))
            changed = dataclasses.replace(circuit, **{name: array})
            with pytest.raises(Rejected):
                verdict(changed, certificate, tmp_path)
