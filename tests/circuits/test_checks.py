"""The checks themselves: each holds on what is right, and is seen to fail on what is wrong."""

import dataclasses

import numpy as np
import pytest

from flowgression import InputError
from flowgression.circuits import build, checks, layer_program, memory
from flowgression.circuits.compile import Precision
from flowgression.circuits.draw import to_dot, to_svg
from flowgression.circuits.ir import Statistics
from flowgression.circuits.scaling import (
    GATE_BOUND,
    WIRE_BOUND,
    Scaling,
    flowar_family,
    layer_family,
    measure,
    plot,
)
from flowgression.cli.circuit import run

P6 = Precision(6)


@pytest.fixture(scope="module")
def norm():
    program = layer_program("rms-norm", n=2, width=2)
    return program, build(program, P6)


def test_a_right_circuit_passes(norm):
    program, circuit = norm
    findings = list(checks.check_program(program, circuit, P6, "table", samples=256, faults=20))
    assert len(findings) == 3
    assert all(finding.holds for finding in findings)


def test_a_wrong_circuit_is_noticed(norm):
    program, circuit = norm
    theta = circuit.theta.copy()
    theta[-10:] += 1
    broken = dataclasses.replace(circuit, theta=theta)
    assert checks.compare(program, broken, P6, 256).mismatches > 0


def test_a_fault_that_changes_nothing_is_not_active(norm):
    program, circuit = norm
    mutation = checks.mutate(circuit, checks.spread_inputs(program, circuit, P6, 256), trials=40)
    assert 0 < mutation.active < mutation.tried == 40
    assert 0.7 * mutation.active <= mutation.caught <= mutation.active


def test_faults_on_every_input():
    circuit = build(layer_program("rms-norm", n=1, width=2), Precision(5))
    inputs = checks.every_input(circuit)
    assert np.unique(np.packbits(inputs, axis=1), axis=0).shape[0] == len(inputs) == 2**10
    finding = checks.check_faults(circuit, inputs, 60, 0.9, "norm")
    assert finding.holds
    blind = dataclasses.replace(circuit, outputs=np.zeros_like(circuit.outputs))
    assert not checks.check_faults(blind, inputs, 60, 0.9, "norm").holds


def test_functions_are_checked_on_every_argument():
    findings = list(checks.check_functions((4, 5)))
    assert [finding.holds for finding in findings] == [True, True]


def test_weights_as_inputs_are_verified():
    program = layer_program("linear", n=1, width=2)
    circuit = build(program, P6, wired=False)
    assert all(f.holds for f in checks.check_program(program, circuit, P6, "table", samples=64, faults=20))


def test_exponents_of_an_exact_power():
    figures = tuple(Statistics(gates=7 * n**3, wires=n**5, depth=9) for n in (2, 4, 8))
    scaling = Scaling("powers", (2, 4, 8), figures, 10)
    assert scaling.exponent("gates") == pytest.approx(3)
    assert scaling.exponent("wires") == pytest.approx(5)
    assert scaling.depths == (9, 9, 9)
    assert "9 for every n" in scaling.summary
    uneven = dataclasses.replace(scaling, statistics=(Statistics(gates=1, wires=1, depth=8), *figures[1:]))
    assert not uneven.same_depth
    assert "differs: [8, 9, 9]" in uneven.summary


def test_scaling_is_measured_and_plotted(tmp_path):
    steps = []
    scaling = measure(layer_family("rms-norm", (2, 3)), P6, progress=lambda *step: steps.append(step))
    assert steps == [(k + 1, len(steps)) for k in range(len(steps))]
    assert scaling.depths[0] == scaling.depths[1] <= scaling.nominal
    plot([scaling], tmp_path / "scale.svg")
    assert (tmp_path / "scale.svg").read_text().rstrip().endswith("</svg>")
    with pytest.raises(InputError, match="growing"):
        layer_family("rms-norm", (3, 2))


def test_memory_is_refused_with_the_figure():
    figures = Statistics(gates=10**9, edges=10**10)
    with pytest.raises(InputError, match=r"379\.98 GiB"):
        memory.check_fits(figures, limit=8.0)
    assert memory.check_fits(Statistics(gates=10, edges=10), limit=1.0) < 1e-5


def test_pictures_of_a_small_circuit():
    circuit = build(layer_program("euler-step", n=1, width=2), Precision(4))
    dot, svg = to_dot(circuit), to_svg(circuit, "a < b")
    assert dot.count("->") == int(np.diff(circuit.row_ptr)[circuit.gate_row].sum())
    assert svg.count("<circle") == circuit.num_gates
    assert "a &lt; b" in svg


def test_large_circuits_are_not_drawn(norm):
    with pytest.raises(InputError, match="only up to 400"):
        to_svg(norm[1])


def test_command_compiles_verifies_counts_and_draws(tmp_path, capsys):
    small = ["linear", "--n", "1", "--bits", "5"]
    assert run(["compile", *small, "--out", str(tmp_path / "c.npz")]) == 0
    assert (tmp_path / "c.npz").is_file()
    assert run(["verify", *small, "--samples", "64", "--faults", "5"]) == 0
    assert run(["count", *small]) == 0
    step = ["euler-step", "--n", "1", "--bits", "4"]
    assert run(["draw", *step, "--out", str(tmp_path / "c.dot")]) == 0
    assert run(["compile", *step, "--weights-as-inputs", "--out", str(tmp_path / "step.npz")]) == 0
    assert run(["draw", str(tmp_path / "step.npz"), "--out", str(tmp_path / "c.svg")]) == 0
    assert run(["scale", "rms-norm", "--sides", "2,3", "--bits", "5"]) == 0
    said = capsys.readouterr().out
    for words in ("holds", "nominal bound", "depth: equal, ", "bound n^4"):
        assert words in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["compil"], "did you mean 'compile'"),
        (["compile", "linear"], "--out"),
        (["count", "linera"], "did you mean 'linear'"),
        (["count", "flowar-s"], "--weights-as-inputs"),
        (["count"], "needs to know WHAT"),
        (["count", "no-such-thing"], "no layer, model or folder"),
        (["count", "flowar", "--scales", "2,x"], "numbers such as"),
        (["count", "flowar", "--scales", "0,2"], "growing"),
        (["count", "flowar", "--n", "3"], "--n has no meaning"),
        (["count", "attention", "--plot", "c.svg"], "--plot has no meaning"),
        (["count", "attention", "--backend", "crd"], "did you mean 'crt'"),
        (["verify", "attention", "--samples", "0"], "expected 1 or more"),
        (["verify", "attention", "--suite"], "leave 'attention' out"),
        (["verify", "mnist-classifier"], "no layer, model or folder"),
        (["count", "flowar-mnist", "--guidance-interval", "0"], "expected 2 arguments"),
        (["count", "attention", "--guidance-scale", "2"], "--guidance-scale has no meaning"),
        (["scale", "--plot", "c.bmp"], "in .svg or .png or .pdf"),
        (["scale", "--sides", "3"], "two or more"),
        (["compile", "linear", "--out", "/dev/null/c.npz"], "cannot be written"),
        (["draw", "linear", "--out", "c.bmp"], "in .dot or .svg"),
        (["compile", "attention", "--memory", "0.0001", "--out", "c.npz"], "GiB may be used"),
    ],
)
def test_command_names_what_is_wrong(argv, message):
    with pytest.raises(InputError, match=message):
        run(argv)


@pytest.mark.slow
def test_the_whole_suite():
    findings = [finding for _, check in checks.suite() for finding in check()]
    assert len(findings) >= 20
    assert [finding.claim for finding in findings if not finding.holds] == []


@pytest.mark.parametrize(
    "scales", [((2, 4), (3, 6)), pytest.param(((2, 4), (3, 6), (4, 8)), marks=pytest.mark.slow)], ids=str
)
def test_flowar_depth_is_the_same_for_every_n(scales):
    scaling = measure(flowar_family(scales), P6)
    assert len(set(scaling.depths)) == 1
    assert scaling.depths[0] <= scaling.nominal
    assert scaling.exponent("gates") < GATE_BOUND
    assert scaling.exponent("wires") < WIRE_BOUND
