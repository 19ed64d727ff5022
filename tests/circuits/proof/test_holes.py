"""Lies by hand, one for each way in which a checker of this kind could be fooled. Each was accepted once, or is of a
kind known from other proof systems: results that nobody proved, numbers out of their range, things given twice, machine
integers, assumptions that the file brings along, claims of nothing.
"""

import copy
import json

import numpy as np
import pytest

from flowgression import InputError
from flowgression.circuits import Circuit, evaluate, load
from flowgression.circuits.proof.checker import check_folder
from flowgression.circuits.proof.schema import Damaged, Rejected
from tests.circuits.proof.forge import IN, OUT, TWO_BITS, cell, certificate, model, number, port, table, write
from tests.circuits.sparse import evaluate_scipy

IDENTITY = ["apply", table(0, 1, 2, 3)]
MIX = ["mix", {"coefficients": [1], "shift": 0, "width": None}]
SUM = {"columns": [[0], [1]], "stages": [], "sum": [0, 1]}


def honest(folder, operation=IDENTITY, results=(TWO_BITS,), rows=(), nodes=(0, 1), **hints):
    """y = x, by the operation; the outputs are the inputs' own nodes."""
    claim = model([operation], [[0, 0]], [("y", [1], [1])])
    gates = sum(len(limits) for _, limits in rows)
    made = [cell(*operation, [TWO_BITS], list(results), gates, **hints)]
    write(folder, IN, OUT, list(rows), list(nodes), certificate(claim, made, [[0, 0]], [[1]]))
    return folder


def edited(folder, change):
    path = folder / "certificate.json"
    proof = json.loads(path.read_text())
    change(proof)
    path.write_text(json.dumps(proof))
    return folder


def test_what_the_forgeries_start_from_is_accepted(tmp_path):
    for k, (operation, hints) in enumerate(((IDENTITY, {}), (MIX, SUM))):
        report = check_folder(honest(tmp_path / str(k), operation, **hints))
        assert (report.gates, report.depth, report.input_bits, report.assumed) == (0, 0, 2, 0)


def test_results_that_no_rule_proves(tmp_path):
    """Two extra constants for one expression made 1 and 2 equal everywhere: y = 1 was claimed, 2 computed."""
    claim = model([], [1], [("y", [1], [1])])
    cells = [cell(*IDENTITY, [TWO_BITS], [TWO_BITS, c]) for c in (1, 2)]
    proof = certificate(claim, cells, [[0, 0], [1, 0]], [[[2]]])
    write(tmp_path, IN, OUT, [([], [1]), ([], [0])], [2, 3], proof)
    with pytest.raises(Damaged, match="a list of 1 items"):
        check_folder(tmp_path)
    for results in ([], [TWO_BITS, TWO_BITS], [TWO_BITS, number(0, 1, [0])]):
        with pytest.raises(Damaged):
            check_folder(edited(tmp_path, lambda p, r=results: p["cells"][0].update(results=r)))


def test_a_stage_of_size_minus_one(tmp_path):
    """It took no column away and counted one: y = x + (x mod 2)."""
    rows = [([(0, 1), (1, 1)], [1, 2]), ([], [1]), ([(2, 1), (3, -1)], [1])]
    bits = [[0], [0, 2, 1, 3, -1]]
    hints = {"columns": [[0], [1]], "stages": [[[0, -1, [0]]]], "sum": bits}
    claim = model([MIX], [[0, 0]], [("y", [1], [1])])
    made = [cell(*MIX, [TWO_BITS], [number(0, 3, bits)], 2, **hints)]
    write(tmp_path, IN, OUT, rows, [4, 5], certificate(claim, made, [[0, 0]], [[1]]))
    with pytest.raises(Damaged, match="from 1 to 64"):
        check_folder(tmp_path)
    for stage in ([0, 0, [0]], [0, 3, [0]], [1, 1, [1, 1]], [-1, 1, [0]], [0, 1, []], [0, 1, [0], 0]):
        with pytest.raises(Damaged):
            check_folder(edited(tmp_path, lambda p, s=stage: p["cells"][0].update(stages=[[s]])))
    with pytest.raises(Rejected, match="twice"):
        check_folder(edited(tmp_path, lambda p: p["cells"][0].update(stages=[[[0, 1, [0]], [0, 1, [0]]]])))


def test_powers_that_are_none(tmp_path):
    """-4 has one bit that is one; so have other numbers that are no powers of two."""
    for power in (-4, 4, 0, 3):
        claim = model([["rescale", {"shift": 1, "width": None}]], [1, power, [0, 0, 1, 2]], [("y", [1], [3])])
        made = [cell("rescale", {"shift": 1, "width": None}, [TWO_BITS, 1, power], [0])]
        write(tmp_path, IN, OUT, [([], [1]), ([], [1])], [2, 3], certificate(claim, made, [[0, 0]], [[[0]]]))
        with pytest.raises(Rejected, match="power"):
            check_folder(tmp_path)


@pytest.mark.parametrize("shape", [[-1], [-1, -1], [0], [1.0], [True], [1 << 40], [1] * 9, 1, None, "1"])
def test_sides_that_are_none(tmp_path, shape):
    honest(tmp_path)
    for key, place in (("inputs", 1), ("outputs", 1)):
        folder = edited(honest(tmp_path), lambda p, k=key, i=place: p["model"][k][0].__setitem__(i, shape))
        with pytest.raises(Damaged):
            check_folder(folder)


def test_a_node_twice_in_a_row(tmp_path):
    """[5 x - x >= 0] is always one; a reader that keeps the last entry takes it for the negation of x."""
    flip = ["apply", table(3, 2, 1, 0)]
    claim = model([flip], [[0, 0]], [("y", [1], [1])])
    made = [cell(*flip, [TWO_BITS], [number(0, 3, [-1, -2])])]
    proof = certificate(claim, made, [[0, 0]], [[1]])
    write(tmp_path, IN, OUT, [([(0, -1)], [0]), ([(1, -1)], [0])], [2, 3], proof)
    assert check_folder(tmp_path).gates == 2
    write(tmp_path, IN, OUT, [([(0, 5), (0, -1)], [0]), ([(1, 5), (1, -1)], [0])], [2, 3], proof)
    with pytest.raises(Rejected, match="own gate is wrong"):
        check_folder(tmp_path)
    with pytest.raises(InputError, match="twice"):
        load(tmp_path / "circuit.npz")


def test_the_same_number_twice_where_the_cell_has_two(tmp_path):
    """x + x' proved for different numbers is not called with one: its gates would read nodes twice."""
    both = [["x", [2], 1, False]]
    a, b = number(0, 1, [0]), number(0, 1, [1])
    plus = ["mix", {"coefficients": [1, 1], "shift": 0, "width": None}]
    hints = {"columns": [[0, 1], []], "stages": [[[0, 1, [4, 3]]]], "sum": [4, 3]}
    made = [cell(*plus, [a, b], [number(0, 2, [4, 3])], 3, **hints)]
    for pair in ([0, 1], [0, 0]):
        claim = model([plus], [[0, *pair]], [("y", [1], [2])], both)
        row = [(n, 1) for n in pair]
        rows = [(row, [1, 2]), ([(2, 1), (3, -1)], [1])]
        proof = certificate(claim, made, [[0, *pair]], [[2]])
        write(tmp_path, [port("x", (2,), 1)], OUT, rows, [4, 3], proof)
        if pair == [0, 1]:
            assert check_folder(tmp_path).calls == 1
        else:
            with pytest.raises(Rejected):
                check_folder(tmp_path)


def test_how_often_a_number_is_added(tmp_path):
    """x + x is 2 x: not x, not with the bits of one x counted twice in one column, and not without one of them."""
    double = ["total", {"plus": 0}]
    claim = model([double], [[0, [0, 0]]], [("y", [1], [1])])
    right = {"columns": [[], [0], [1]], "stages": [], "sum": [[0], 0, 1]}
    wrong = [{"columns": [[0], [1], []], "sum": [0, 1, [0]]}, {"columns": [[], [0], []], "sum": [[0], 0, [0]]}]
    wrong += [{"columns": [[0, 0], [1, 1], []], "sum": [0, 1, [0]]}]
    for hints in ({}, *wrong):
        told = right | hints
        made = [cell(*double, [[TWO_BITS, TWO_BITS]], [number(0, 6, told["sum"])], **told)]
        rows = [([], [1 - bit[0]]) for bit in told["sum"] if isinstance(bit, list)]
        nodes, extra = [], iter(range(2, 5))
        for bit in told["sum"]:
            nodes.append(next(extra) if isinstance(bit, list) else bit)
        write(tmp_path, IN, [port("y", (1,), 3)], rows, nodes, certificate(claim, made, [[0, 0, 0]], [[1]]))
        if not hints:
            assert check_folder(tmp_path).calls == 1
        else:
            with pytest.raises(Rejected, match=r"polynomial|twice|two rows|bit of the sum"):
                check_folder(tmp_path)


@pytest.mark.parametrize("text", ['{"like":0,"like":0}', '{"a":1,"a":1}'])
def test_a_key_twice(tmp_path, text):
    path = honest(tmp_path) / "certificate.json"
    path.write_text(path.read_text().replace('"calls": [', f'"calls": [{text}, '))
    with pytest.raises(Damaged, match="twice"):
        check_folder(tmp_path)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], -0.0, 1e400, 1 << 5000])
def test_what_is_no_integer(tmp_path, value):
    """Everywhere where an integer stands."""
    places = [
        lambda p, v: p["cells"][0].update(gates=v),
        lambda p, v: p["cells"][0]["parameters"].update(shift=v),
        lambda p, v: p["cells"][0]["results"][0].update(hi=v),
        lambda p, v: p["calls"].__setitem__(0, [0, v]),
        lambda p, v: p["model"]["steps"][0].__setitem__(1, v),
        lambda p, v: p["model"]["inputs"][0].__setitem__(2, v),
        lambda p, v: p["outputs"][0].__setitem__(0, v),
    ]
    for place in places:
        honest(tmp_path, MIX, **SUM)
        with pytest.raises(Rejected):
            check_folder(edited(tmp_path, lambda p, f=place: f(p, value)))


def test_zero_with_a_sign(tmp_path):
    path = honest(tmp_path) / "certificate.json"
    path.write_text(path.read_text().replace('"lo": 0', '"lo": -0'))
    with pytest.raises(Damaged, match="-0"):
        check_folder(tmp_path)


def test_bits_that_wrap(tmp_path):
    """1 + 2^64 is 1 in 64 bits; so is the sum of two weights of 2^63 none at all."""
    one = number(0, 1, [0])
    claim = model([["one_hot", {"size": 2}]], [[0, 0]], [("y", [1], [1])], [["x", [], 1, False]])
    for bits in ([[1, 0, -1], [0, 0, 1 + 2**64]], [[1, 0, -1], [0, 0, 1 + 2**32]], [[1 - 2**64, 0, -1], 0]):
        made = [cell("one_hot", {"size": 2}, [one], [number(0, 2, bits)])]
        rows = [([(0, -1)], [0]), ([(0, 1)], [1])]
        write(tmp_path, [port("x", (), 1)], OUT, rows, [1, 2], certificate(claim, made, [[0, 0]], [[1]]))
        with pytest.raises(Damaged):
            check_folder(tmp_path)


@pytest.mark.parametrize(
    ("weights", "theta"),
    [([1, 1], 2**63 - 1), ([1, 1], -(2**63)), ([2**62, 2**62], 2), ([-(2**63), 1], 0), ([2**52, 2**52], 1)],
)
def test_sums_that_machines_cannot_hold_are_refused_by_every_reader(tmp_path, weights, theta):
    rows = [([(0, weights[0]), (1, weights[1])], [theta])]
    write(tmp_path, IN, [port("y", (1,), 1)], rows, [2], {})
    with pytest.raises(Damaged, match=r"2\^53"):
        check_folder(tmp_path)
    with pytest.raises(InputError, match=r"2\^53"):
        load(tmp_path / "circuit.npz")
    lists = [np.array(a, dtype=np.int64) for a in ([0, 2], [0, 1], weights, [0], [theta], [1], [2])]
    circuit = Circuit(2, *lists)
    for run in (evaluate, evaluate_scipy):
        with pytest.raises(InputError, match=r"2\^53"):
            run(circuit, np.ones((1, 2), dtype=bool))


def test_the_largest_sums_are_evaluated_right():
    """The limit is one that evaluators keep: 2^53 - 1 in one weight, and thresholds at both ends."""
    most = 2**53 - 1
    lists = [np.array(a, dtype=np.int64) for a in ([0, 1], [0], [most], [0] * 4)]
    theta = np.array([most, -most, 1 - most, 1], dtype=np.int64)
    circuit = Circuit(1, *lists, theta, np.ones(4, dtype=np.int64), np.arange(1, 5))
    given = np.array([[False], [True]])
    for run in (evaluate, evaluate_scipy):
        assert run(circuit, given).tolist() == [[False, True, True, False], [True] * 4]


FRESH_OUT = [port("y", (1,), 3)]


def assuming(folder, lo=0, hi=3, one_hot=False, like=0, bits=2):
    """max(v, 1) of a fresh v like x, with a truthful circuit for 0..3: bit 0 is [a >= b]."""
    step = {"like": like, "lo": lo, "hi": hi, "one_hot": one_hot}
    claim = model([["at_least_one", {}]], [step, [0, 1]], [("y", [1], [2])])
    made = [cell("at_least_one", {}, [TWO_BITS], [number(1, 3, [2, 1])], 1)]
    inputs = [*IN, port("fresh", (bits,), 1)]
    rows = [([(2, 2), (3, -1)], [0]), ([], [1])]
    proof = certificate(claim, made, [{"like": like}, [0, 1]], [[2]])
    write(folder, inputs, FRESH_OUT, rows, [2 + bits, 3, 3 + bits], proof)
    return folder


def test_assumptions_are_those_of_numbers_that_exist(tmp_path):
    report = check_folder(assuming(tmp_path))
    assert [(f.lo, f.hi, f.one_hot) for f in report.fresh] == [(0, 3, False)]
    assert "PROVED for every argument" in str(report)
    assert "1 in 0..3" in str(report)
    for wrong in ({"lo": 1}, {"hi": 2}, {"lo": 5, "hi": 6}, {"one_hot": True}, {"like": 1}, {"bits": 3}):
        with pytest.raises(Rejected):
            check_folder(assuming(tmp_path, **wrong))


def test_contradictory_assumptions_prove_nothing(tmp_path):
    """5..6 in one bit: what holds of no value held of all."""
    proof = {"assumed": [number(5, 6, [0])], "one_hot": []}
    with pytest.raises(Damaged, match="keys"):
        check_folder(edited(honest(tmp_path), lambda p: p.update(proof)))
    for lo, hi in ((5, 6), (3, 0), (0, 0)):
        change = number(lo, hi, [0, 1])
        with pytest.raises(Rejected):
            check_folder(edited(honest(tmp_path), lambda p, c=change: p["cells"][0].update(arguments=[c])))


def test_claims_of_nothing(tmp_path):
    write(tmp_path, [], [], [], [], certificate(model([], [], [], []), [], [], []))
    with pytest.raises(Damaged):
        check_folder(tmp_path)
    for which in ("inputs", "outputs"):
        with pytest.raises(Damaged):
            check_folder(edited(honest(tmp_path), lambda p, k=which: p["model"].update({k: []})))


def test_outputs_of_one_name(tmp_path):
    """The second hid the first."""
    claim = model([], [], [("y", [1], [0])])
    proof = certificate(claim, [], [], [[[0]], [0]])
    rows = [([], [1]), ([], [1])]
    write(tmp_path, IN, [port("y", (1,), 2), port("y", (1,), 2)], rows, [2, 3, 0, 1], proof)
    with pytest.raises(Damaged, match="twice"):
        check_folder(tmp_path)


def test_gates_that_stand_in_no_call(tmp_path):
    proof = honest(tmp_path) / "certificate.json"
    kept = proof.read_text()
    write(tmp_path, IN, OUT, [([(0, 1), (1, 1)], [1])], [0, 1], {})
    proof.write_text(kept)
    with pytest.raises(Rejected, match="beyond"):
        check_folder(tmp_path)


def test_numbers_before_the_first_and_behind_the_last(tmp_path):
    for change in (
        lambda p: p["model"]["steps"][0].__setitem__(1, -1),
        lambda p: p["model"]["steps"][0].__setitem__(1, 1),
        lambda p: p["model"]["steps"][0].__setitem__(0, -1),
        lambda p: p["calls"].__setitem__(0, [0, -1]),
        lambda p: p["calls"].__setitem__(0, [0, 1]),
        lambda p: p["calls"].__setitem__(0, [-1, 0]),
        lambda p: p["calls"].__setitem__(0, [0]),
        lambda p: p["outputs"][0].__setitem__(0, 2),
        lambda p: p["model"]["outputs"][0][2].__setitem__(0, 2),
        lambda p: p["cells"].append(copy.deepcopy(p["cells"][0])),
        lambda p: p["cells"][0].update(more=1),
        lambda p: p["cells"][0].pop("gates"),
        lambda p: p["cells"][0].update(columns=[]),
        lambda p: p["cells"][0]["parameters"].update(more=1),
    ):
        with pytest.raises(Rejected):
            check_folder(edited(honest(tmp_path), change))


def test_the_claim_is_in_the_digest(tmp_path):
    """Names, formats, ports and shapes: another word is another claim."""
    first = check_folder(honest(tmp_path)).digest
    for change in (
        lambda p: p["model"]["name"].update(weights="SHA-256 0"),
        lambda p: p["model"]["operations"].append(["at_least_one", {}]),
        lambda p: p["model"]["steps"].append(3),
    ):
        assert check_folder(edited(honest(tmp_path), change)).digest != first
