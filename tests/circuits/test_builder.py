"""The IR: banks, telescoping, templates, files, and the two evaluators."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgression import InputError
from flowgression.circuits import evaluate, load
from flowgression.circuits.arithmetic.addition import add
from flowgression.circuits.arithmetic.number import Number, input_number
from flowgression.circuits.builder import ONE, ZERO, Bit, Builder, extend, merge, telescope_bits
from flowgression.circuits.ir import Port, check
from tests.circuits.sparse import evaluate_scipy


def all_inputs(count):
    return np.array(list(itertools.product([False, True], repeat=count)))


def test_a_bank_is_stored_once_and_its_wires_counted_for_each_gate():
    builder = Builder()
    bits = builder.inputs(5)
    outputs = builder.bank([(1, bit) for bit in bits], range(1, 6))
    circuit = builder.finish(outputs)
    statistics = circuit.statistics()
    assert (statistics.gates, statistics.edges, statistics.wires, statistics.depth) == (5, 5, 25, 1)
    inputs = all_inputs(5)
    np.testing.assert_array_equal(evaluate(circuit, inputs).sum(1), inputs.sum(1))


def test_known_answers_cost_no_gate():
    builder = Builder()
    x, y = builder.inputs(2)
    assert builder.bank([(1, x), (1, y)], (0, 3)) == [ONE, ZERO]
    assert builder.conjunction(x, ONE) == x
    assert builder.at_least([(-1, x)], 0) == ~x
    assert builder.at_least([(1, x), (1, ~x)], 1) == ONE
    assert builder.statistics().gates == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6), st.integers(0, 2**12), st.integers(0, 3))
def test_telescoping_any_function(weights, seed, const):
    table = {v: int(np.random.default_rng([seed, v + 100]).integers(0, 8)) for v in range(-100, 100)}
    builder = Builder()
    bits = builder.inputs(len(weights))
    outputs = telescope_bits(builder, [*zip(weights, bits, strict=True), (const, ONE)], 3, table.__getitem__)
    circuit = builder.finish(outputs)
    inputs = all_inputs(len(weights))
    sums = inputs @ np.array(weights) + const
    found = evaluate_scipy(circuit, inputs) @ np.array([1, 2, 4])
    np.testing.assert_array_equal(found, [table[v] for v in sums])
    assert circuit.statistics().depth <= 2


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), max_size=8),
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), max_size=8),
)
def test_extend_is_merge(first, second):
    def terms(pairs):
        return [(c, Bit(1, (node,), (-1,))) for c, node in pairs]

    whole, grown = merge(terms(first + second)), extend(merge(terms(first)), terms(second))
    assert dict(zip(whole.nodes, whole.weights, strict=True)) == dict(zip(grown.nodes, grown.weights, strict=True))
    assert (whole.const, whole.low, whole.high) == (grown.const, grown.low, grown.high)


@pytest.mark.parametrize("materialise", [True, False])
def test_templates_change_nothing(materialise):
    def build(templates):
        builder = Builder(materialise, templates)
        numbers = [input_number(builder, 4) for _ in range(6)]
        shared = [
            (numbers[0], numbers[1]),
            (numbers[2], numbers[3]),
            (numbers[4], numbers[4]),
            (numbers[5], numbers[0]),
        ]
        first = [builder.call("add", add, a, b) for a, b in shared]
        second = [builder.call("add", add, a, b) for a, b in itertools.pairwise(first)]
        return builder, first + second

    (plain, numbers), (copied, copies) = build(False), build(True)
    assert plain.statistics() == copied.statistics()
    assert numbers == copies
    if materialise:
        outputs = [bit for number in numbers for bit in number.bits]
        one, other = plain.finish(outputs), copied.finish(outputs)
        for name in ("row_ptr", "row_idx", "row_w", "gate_row", "theta", "level"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_cell_that_reads_strangers_is_refused():
    builder = Builder()
    x, y, stranger = (input_number(builder, 3) for _ in range(3))

    def cell(b, number):
        return add(b, number, stranger)

    builder.call("bad", cell, x)
    with pytest.raises(RuntimeError, match="not among its arguments"):
        builder.call("bad", cell, y)


def wide_circuit(seed=0, inputs=9, gates=40):
    generator = np.random.default_rng(seed)
    builder = Builder()
    bits = builder.inputs(inputs)
    for _ in range(gates):
        chosen = generator.choice(len(bits), size=min(5, len(bits)), replace=False)
        weights = generator.integers(-(2**40), 2**40, size=len(chosen)).tolist()
        theta = int(generator.integers(-(2**40), 2**40))
        bits += builder.bank([(w, bits[c]) for w, c in zip(weights, chosen, strict=True)], (theta, theta + 2**38))
    return builder.finish(bits[inputs:])


@pytest.mark.parametrize("samples", [1, 63, 64, 513])
def test_both_evaluators_agree_also_with_weights_beyond_32_bits(samples):
    circuit = wide_circuit()
    inputs = np.random.default_rng(1).random((samples, circuit.num_inputs)) < 0.5
    np.testing.assert_array_equal(evaluate(circuit, inputs), evaluate_scipy(circuit, inputs))


def test_save_and_load(tmp_path):
    builder = Builder()
    x = input_number(builder, 4)
    total = add(builder, x, x, x)
    circuit = builder.finish(total.bits, [Port("x", (), 4, True)], [Port("y", (), total.width, True)], note="three x")
    circuit.save(tmp_path / "c.npz")
    loaded = load(tmp_path / "c.npz")
    assert loaded.statistics() == circuit.statistics()
    assert loaded.metadata == {"note": "three x"}
    values = np.arange(-8, 8)
    found = loaded.decode_outputs(evaluate(loaded, loaded.encode_inputs(x=values)))
    np.testing.assert_array_equal(found["y"], 3 * values)


def test_loading_something_else(tmp_path):
    with pytest.raises(InputError, match="not a file"):
        load(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="compile the model again"):
        load(tmp_path / "other.npz")


def test_a_gate_that_reads_its_successor_is_refused():
    circuit = wide_circuit(gates=4)
    circuit.row_idx[0] = circuit.num_inputs + circuit.num_gates - 1
    with pytest.raises(InputError, match="comes after it"):
        check(circuit)


def test_bad_inputs_are_named():
    builder = Builder()
    x = input_number(builder, 3)
    circuit = builder.finish(x.bits, [Port("x", (), 3, True)])
    with pytest.raises(InputError, match=r"expected \[-4, 3\]"):
        circuit.encode_inputs(x=np.array([4]))
    with pytest.raises(InputError, match="reads \\['x'\\]"):
        circuit.encode_inputs(z=np.array([1]))
    with pytest.raises(InputError, match="bool"):
        evaluate(circuit, np.zeros((2, 5)))


def test_number_beyond_its_width_repeats_its_sign():
    builder = Builder()
    x = input_number(builder, 3)
    assert x.bit(7) == x.bits[2]
    assert Number(x.bits, 0, 7).bit(7) == ZERO


def test_the_core_never_loads_torch():
    modules = "compile programs simulate checks scaling draw uniformity lower.scalewise arithmetic.division"
    code = "import sys\n" + "".join(f"import flowgression.circuits.{m}\n" for m in modules.split())
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
