"""What counts as proof: each claim about the circuits as a function that returns what it measured and whether it holds.

1 depth does not depend on n; 2 circuit = integers, bit for bit; 3 three ways of counting agree; 4 the comparison
notices faults; 5 speed and memory.
"""

import dataclasses
import resource
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from flowgression.circuits.compile import Program, build, count, count_gate_by_gate, interpret, sample_inputs
from flowgression.circuits.ir import Circuit
from flowgression.circuits.lower.precision import Precision
from flowgression.circuits.programs import flowar_program, layer_program
from flowgression.circuits.scaling import attention_family, flowar_family, measure
from flowgression.circuits.simulate import evaluate, evaluate_nodes
from flowgression.circuits.spec import FlowARSpec, random_spec

SMALL = {"width": 2, "flow_width": 2, "decoder_depth": 0, "num_classes": 4}
"""The sizes at which whole models are materialised: one transformer block, one flow block, width 2."""


SPREADS = (0.5, 1.0, 2.0, 4.0)
"""Standard deviations of the inputs on which faults are looked for: small reach low bits, large saturation."""


class Finding(NamedTuple):
    """One checked claim: what was measured, in words, and whether it holds."""

    claim: str
    measured: str
    holds: bool


class Comparison(NamedTuple):
    """Outputs that differ, compared, and the share of saturated results on the way."""

    mismatches: int
    compared: int
    saturation: float


def compare(program: Program, circuit: Circuit, precision: Precision, samples: int, seed: int = 0) -> Comparison:
    """The circuit against the integer interpreter on random inputs."""
    inputs = sample_inputs(program, precision, samples, seed)
    expected = interpret(program, precision, inputs)
    found = circuit.decode_outputs(evaluate(circuit, circuit.encode_inputs(**inputs)))
    wrong = sum(int((found[name] != expected.outputs[name]).sum()) for name in found)
    return Comparison(wrong, sum(values.size for values in found.values()), expected.saturation)


class Mutation(NamedTuple):
    """theta + 1 on `tried` random gates, one at a time: `active` changed some gate's value on the samples, `caught`
    an output.
    """

    tried: int
    active: int
    caught: int


def mutate(
    program: Program, circuit: Circuit, precision: Precision, trials: int, samples: int = 4096, seed: int = 0
) -> Mutation:
    """How many single faults the comparison of outputs notices.

    A fault whose gate keeps its value on all samples changes nothing at all; it is tried but not active.
    """
    generator = np.random.default_rng(seed)
    parts = [sample_inputs(program, precision, samples // len(SPREADS), seed, spread) for spread in SPREADS]
    bits = np.concatenate([circuit.encode_inputs(**part) for part in parts])
    chosen = generator.choice(circuit.num_gates, size=min(trials, circuit.num_gates), replace=False)
    watched = np.concatenate([circuit.num_inputs + chosen, circuit.outputs])
    right = evaluate_nodes(circuit, bits, watched)
    active = caught = 0
    for k, gate in enumerate(chosen):
        theta = circuit.theta.copy()
        theta[gate] += 1
        faulty = evaluate_nodes(dataclasses.replace(circuit, theta=theta), bits, watched)
        active += bool((faulty[:, k] != right[:, k]).any())
        caught += bool((faulty[:, len(chosen) :] != right[:, len(chosen) :]).any())
    return Mutation(len(chosen), active, caught)


def check_depth(sides: tuple[int, ...], pairs: tuple[tuple[int, ...], ...], bits: int = 8) -> Iterator[Finding]:
    """Claim 1: attention for every n in sides, FlowAR for every list of scales in pairs."""
    attention = measure(attention_family(sides, Precision(bits)))
    yield Finding(
        f"attention has one depth for n = {sides[0]}..{sides[-1]}", attention.summary, len(set(attention.depths)) == 1
    )
    whole = measure(flowar_family(pairs, Precision(bits)))
    names = ", ".join(str(pair).replace(" ", "") for pair in pairs)
    yield Finding(f"FlowAR, weights as inputs, has one depth for {names}", whole.summary, len(set(whole.depths)) == 1)


def check_equality(program: Program, precision: Precision, samples: int) -> Iterator[Finding]:
    """Claims 2 and 3 on one program."""
    started = time.process_time()
    circuit = build(program, precision)
    seconds = time.process_time() - started
    wrong, compared, saturation = compare(program, circuit, precision, samples)
    statistics = circuit.statistics()
    measured = (
        f"{wrong} of {compared} outputs differ on {samples} inputs, {saturation:.2%} of results saturated; "
        f"{statistics.gates:,} gates, {statistics.wires:,} wires, depth {statistics.depth}, "
        f"built in {seconds:.1f} s of CPU"
    )
    yield Finding(f"{program.name} equals the integers", measured, wrong == 0 and saturation < 0.5)
    same = statistics == count(program, precision).total_statistics
    yield Finding(f"{program.name}: typed count = materialised", f"{statistics.gates:,} gates", same)


def check_counts(program: Program, precision: Precision) -> Finding:
    """Claim 3 in full: materialised, not materialised, with and without templates, by types."""
    figures = {
        build(program, precision).statistics(),
        build(program, precision, templates=False).statistics(),
        count_gate_by_gate(program, precision, templates=False),
        count_gate_by_gate(program, precision, templates=True),
        count(program, precision).total_statistics,
    }
    measured = "; ".join(f"{f.gates:,} gates, {f.wires:,} wires, depth {f.depth}" for f in figures)
    return Finding(f"{program.name}: five ways of counting agree", measured, len(figures) == 1)


def check_mutation(program: Program, precision: Precision, trials: int, samples: int = 4096) -> Finding:
    """Claim 4."""
    tried, active, caught = mutate(program, build(program, precision), precision, trials, samples)
    measured = f"{caught} of {active} active faults change an output ({tried} tried)"
    return Finding(f"{program.name}: faults are noticed", measured, active > 0 and caught >= 0.9 * active)


def check_program(
    program: Program, circuit: Circuit, precision: Precision, samples: int, faults: int
) -> Iterator[Finding]:
    """Claims 2, 3 and 4 on a circuit that is already built."""
    wrong, compared, saturation = compare(program, circuit, precision, samples)
    measured = f"{wrong} of {compared} outputs differ on {samples} inputs, {saturation:.2%} of results saturated"
    yield Finding(f"{program.name} equals the integers", measured, wrong == 0)
    same = circuit.statistics() == count(program, precision).total_statistics
    yield Finding("typed count = materialised", f"{circuit.num_gates:,} gates", same)
    if faults:
        tried, active, caught = mutate(program, circuit, precision, faults)
        measured = f"{caught} of {active} active faults change an output ({tried} tried)"
        yield Finding("faults are noticed", measured, active > 0 and caught >= 0.9 * active)


def check_speed(bits: int = 8, samples: int = 4096) -> Finding:
    """Claim 5: the evaluator on attention with n = 4."""
    precision = Precision(bits)
    program = layer_program("attention", 4, 2)
    circuit = build(program, precision)
    encoded = circuit.encode_inputs(**sample_inputs(program, precision, samples))
    evaluate(circuit, encoded[:1])  # compile first
    started = time.process_time()
    evaluate(circuit, encoded)
    rate = circuit.statistics().wires * samples / (time.process_time() - started)
    return Finding("the evaluator does 5e9 wire-samples per CPU second", f"{rate:.2e} on attention n = 4", rate >= 5e9)


def check_build(scales: tuple[int, ...] = (1, 2, 4), bits: int = 8) -> Finding:
    """Claim 5: time of building FlowAR with three scales, and the process's peak memory."""
    started = time.process_time()
    circuit = build(flowar_program(small_flowar(scales)), Precision(bits))
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    measured = f"{circuit.num_gates:,} gates in {seconds:.1f} s of CPU, peak memory {peak:.2f} GiB"
    return Finding(f"FlowAR{scales} is built in 60 s and 1 GB", measured, seconds < 60 and peak < 1e9 / 2**30)


def small_flowar(scales: tuple[int, ...], steps: int = 1) -> FlowARSpec:
    """A random model of the size that is materialised."""
    return random_spec(0, scales=scales, times=tuple(np.linspace(1, 0, steps + 1).tolist()), **SMALL)


def suite(progress: Callable[[str], None] = lambda _: None) -> Iterator[Finding]:
    """All five points at full size."""
    p8 = Precision(8)
    progress("building FlowAR (1, 2, 4) against the clock")
    yield check_build()
    progress("timing the evaluator")
    yield check_speed()
    progress("depth against n")
    yield from check_depth((2, 3, 4, 5, 6), ((2, 4), (3, 6), (4, 8)))
    for n in (2, 3, 4):
        progress(f"attention n = {n}")
        yield from check_equality(layer_program("attention", n, 2), p8, 1024)
    for scales in ((1, 2), (2, 4), (1, 2, 4)):
        progress(f"FlowAR {scales}")
        yield from check_equality(flowar_program(small_flowar(scales)), p8, 1024)
    progress("counting in five ways")
    yield check_counts(layer_program("attention", 2, 2), p8)
    yield check_counts(flowar_program(small_flowar((1, 2))), p8)
    progress("planting faults")
    yield check_mutation(layer_program("attention", 2, 2), p8, 100)
    yield check_mutation(layer_program("rms-norm", 2, 2), p8, 100)
