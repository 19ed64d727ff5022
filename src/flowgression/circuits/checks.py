"""Each claim about the circuits as a function that returns what it measured and whether it holds.

1 depth does not depend on n; 2 circuit = integers, bit for bit; 3 all ways of counting agree; 4 the comparison
notices faults; 5 speed and memory; 6 gates follow from their addresses; 7 circuits are proved for every input.
"""

import dataclasses
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.arithmetic.functions import Function, function
from flowgression.circuits.arithmetic.number import Number, width_of
from flowgression.circuits.builder import Builder
from flowgression.circuits.certify import certify
from flowgression.circuits.compile import Program, build, count, count_gate_by_gate, interpret, sample_inputs, trace
from flowgression.circuits.flowar_spec import FlowARSpec, random_spec
from flowgression.circuits.ir import Circuit, Port
from flowgression.circuits.lower.cells import APPLY
from flowgression.circuits.lower.precision import Precision
from flowgression.circuits.programs import LAYERS, flowar_program, layer_program
from flowgression.circuits.proof.checker import check_folder
from flowgression.circuits.proof.schema import Rejected
from flowgression.circuits.scaling import flowar_family, layer_family, measure
from flowgression.circuits.simulate import evaluate, evaluate_nodes
from flowgression.circuits.uniformity import AddressBook

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


def verifying_inputs(
    program: Program, circuit: Circuit, precision: Precision, samples: int, seed: int = 0, spread: float = 1.0
) -> dict[str, np.ndarray]:
    """Random values for every input of the circuit; a port `weights` gets the program's own weights."""
    inputs = sample_inputs(program, precision, samples, seed, spread)
    if "weights" in {port.name for port in circuit.input_ports}:
        constants = interpret(program, precision, inputs).constants
        flat = np.concatenate([each.reshape(-1) for each in constants])
        inputs["weights"] = np.broadcast_to(flat, (samples, len(flat)))
    return inputs


def compare(program: Program, circuit: Circuit, precision: Precision, samples: int, seed: int = 0) -> Comparison:
    """The circuit against the integer interpreter on random inputs."""
    inputs = verifying_inputs(program, circuit, precision, samples, seed)
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


def mutate(circuit: Circuit, inputs: np.ndarray, trials: int, seed: int = 0) -> Mutation:
    """How many single faults the comparison of outputs notices on encoded inputs, bool [samples, N].

    A fault whose gate keeps its value on all samples changes nothing at all; it is tried but not active.
    """
    chosen = np.random.default_rng(seed).choice(circuit.num_gates, size=min(trials, circuit.num_gates), replace=False)
    watched = np.concatenate([circuit.num_inputs + chosen, circuit.outputs])
    right = evaluate_nodes(circuit, inputs, watched)
    active = caught = 0
    for k, gate in enumerate(chosen):
        theta = circuit.theta.copy()
        theta[gate] += 1
        faulty = evaluate_nodes(dataclasses.replace(circuit, theta=theta), inputs, watched)
        active += bool((faulty[:, k] != right[:, k]).any())
        caught += bool((faulty[:, len(chosen) :] != right[:, len(chosen) :]).any())
    return Mutation(len(chosen), active, caught)


def spread_inputs(program: Program, circuit: Circuit, precision: Precision, samples: int) -> np.ndarray:
    """Encoded random inputs of four spreads, to look for faults on: bool [samples, N]."""
    each = max(samples // len(SPREADS), 1)
    parts = [verifying_inputs(program, circuit, precision, each, 0, spread) for spread in SPREADS]
    return np.concatenate([circuit.encode_inputs(**part) for part in parts])


def every_input(circuit: Circuit) -> np.ndarray:
    """All 2^N inputs of a circuit with few: bool [2^N, N]."""
    return (np.arange(1 << circuit.num_inputs)[:, None] >> np.arange(circuit.num_inputs) & 1).astype(bool)


def check_depth(sides: tuple[int, ...], pairs: tuple[tuple[int, ...], ...], bits: int = 8) -> Iterator[Finding]:
    """Claim 1: attention for every n in sides, FlowAR for every list of scales in pairs."""
    attention = measure(layer_family("attention", sides), Precision(bits))
    yield Finding(f"attention has one depth for n = {sides[0]}..{sides[-1]}", attention.summary, attention.same_depth)
    whole = measure(flowar_family(pairs), Precision(bits))
    names = ", ".join(str(pair).replace(" ", "") for pair in pairs)
    yield Finding(f"FlowAR, weights as inputs, has one depth for {names}", whole.summary, whole.same_depth)


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


def check_faults(circuit: Circuit, inputs: np.ndarray, trials: int, share: float, words: str) -> Finding:
    """Claim 4: of the faults that change any gate's value, at least this share must change an output."""
    tried, active, caught = mutate(circuit, inputs, trials)
    measured = f"{caught} of {active} active faults change an output ({tried} tried on {len(inputs):,} inputs)"
    return Finding(f"{words}: {share:.0%} of faults are noticed", measured, active > 0 and caught >= share * active)


def check_program(
    program: Program, circuit: Circuit, precision: Precision, backend: str, samples: int, faults: int
) -> Iterator[Finding]:
    """Claims 2, 3 and 4 on a circuit that is already built.

    Fewer faults need to be noticed than in the suite: a fault in the low digits of a sum is often rounded away, and in
    a small circuit some change no output for any input at all.
    """
    wrong, compared, saturation = compare(program, circuit, precision, samples)
    measured = f"{wrong} of {compared} outputs differ on {samples} inputs, {saturation:.2%} of results saturated"
    yield Finding(f"{program.name} equals the integers", measured, wrong == 0)
    wired = "weights" not in {port.name for port in circuit.input_ports}
    same = circuit.statistics() == count(program, precision, backend=backend, wired=wired).total_statistics
    yield Finding("typed count = materialised", f"{circuit.num_gates:,} gates", same)
    if faults:
        yield check_faults(circuit, spread_inputs(program, circuit, precision, 4096), faults, 0.7, program.name)


def check_proof(program: Program, precision: Precision, backend: str = "table", wired: bool = True) -> Finding:
    """Claim 7: a proof for every input, judged by a checker that knows nothing of the compiler, from its files."""
    with tempfile.TemporaryDirectory() as folder:
        certify(program, precision, folder, backend=backend, wired=wired)
        try:
            measured, holds = str(check_folder(folder)).splitlines()[0], True
        except Rejected as error:
            measured, holds = str(error), False
    weights = "" if wired else ", all weights"
    return Finding(f"{program.name}, p = {precision.bits}, {backend}{weights}: proved for every input", measured, holds)


def check_functions(bits: Sequence[int] = range(4, 11)) -> Iterator[Finding]:
    """Claim 2 for functions of one number: every argument, both back ends."""
    for backend, apply in APPLY.items():
        wrong = compared = 0
        for p in bits:
            half = 1 << (p - 1)
            signed = [function(name, -half, half - 1, max(p - 4, 1), max(p - 4, 1)) for name in ("exp", "silu", "gelu")]
            mantissas = [
                function("reciprocal", 1 << p, (2 << p) - 1, p, p),
                function("rsqrt", 1 << p, (4 << p) - 1, p, p),
            ]
            for each in [*signed, *mantissas]:
                arguments = np.arange(each.lo, each.hi + 1)
                wrong += int((_values(each, apply, arguments) != each.values).sum())
                compared += len(arguments)
        measured = (
            f"{wrong} of {compared:,} values differ: exp, SiLU, GELU, 1/x, 1/sqrt(x), p = {bits[0]} to {bits[-1]}"
        )
        yield Finding(f"functions by {backend} are right for every argument", measured, wrong == 0)


def _values(each: Function, apply: Callable[[Builder, Function, Number], Number], arguments: np.ndarray) -> np.ndarray:
    """What the circuit of a function gives for its arguments."""
    builder = Builder()
    port = Port("x", (), width_of(each.lo, each.hi), each.lo < 0)
    x = Number(tuple(builder.inputs(port.width)), each.lo, each.hi)
    result = apply(builder, each, x)
    circuit = builder.finish(result.bits)
    return Port("y", (), result.width, result.signed).decode(evaluate(circuit, port.encode(arguments)))


def check_addresses(program: Program, precision: Precision, samples: int, seed: int = 0) -> Finding:
    """Random gates described from their addresses and the table of calls, against the materialised circuit."""
    circuit, book = build(program, precision), AddressBook()
    trace(program, precision, book)
    total = book.num_gates
    chosen = np.random.default_rng(seed).choice(total, size=min(samples, total), replace=False)
    wrong = sum(not book.agrees(circuit, int(gate)) for gate in chosen)
    measured = f"{wrong} of {len(chosen)} gates differ; {book.num_forms} distinct cells in {len(book.calls):,} calls"
    return Finding(f"{program.name}: gates follow from their addresses", measured, wrong == 0)


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
    """Claim 5: processor time of building FlowAR, and the most memory that this allocates, whatever was done before."""
    program, precision = flowar_program(small_flowar(scales)), Precision(bits)
    started = time.process_time()
    build(program, precision)
    seconds = time.process_time() - started
    tracemalloc.start()  # slows it down, so it is built again
    gates = build(program, precision).num_gates
    peak = tracemalloc.get_traced_memory()[1] / 1e9
    tracemalloc.stop()
    measured = f"{gates:,} gates in {seconds:.1f} s of CPU, at most {peak:.2f} GB"
    return Finding(f"scales {scales} are built in 60 s and 1 GB", measured, seconds < 60 and peak < 1)


def small_flowar(scales: tuple[int, ...], steps: int = 1) -> FlowARSpec:
    """A random model of the size that is materialised."""
    return random_spec(0, scales=scales, times=tuple(np.linspace(0, 1, steps + 1).tolist()), **SMALL)


Check = tuple[str, Callable[[], Iterable[Finding]]]


def suite() -> list[Check]:
    """All claims at full size, as (what is being done, function that does it), in the order to be run."""
    p8, p10 = Precision(8), Precision(10)
    attention, norm = layer_program("attention", 2, 2), layer_program("rms-norm", 1, 2)
    pairs = ((2, 4), (3, 6), (4, 8))
    checks: list[Check] = [
        ("building FlowAR (1, 2, 4) against the clock", lambda: [check_build()]),
        ("timing the evaluator", lambda: [check_speed()]),
        ("depth against n", lambda: check_depth((2, 3, 4, 5, 6), pairs)),
    ]
    for n in (2, 3, 4):
        checks.append((f"attention n = {n}", partial(check_equality, layer_program("attention", n, 2), p8, 1024)))
    for scales in ((1, 2), (2, 4), (1, 2, 4)):
        program = flowar_program(small_flowar(scales))
        checks.append((f"FlowAR {scales}", partial(check_equality, program, p8, 1024)))
    small = flowar_program(small_flowar((1, 2)))
    return [
        *checks,
        ("functions of one number", check_functions),
        ("attention at ten bits", partial(check_equality, attention, p10, 1024)),
        ("counting attention in five ways", lambda: [check_counts(attention, p8)]),
        ("counting FlowAR in five ways", lambda: [check_counts(small, p8)]),
        ("planting faults in attention", lambda: [_attention_faults(attention, p8)]),
        ("planting faults in a norm", lambda: [_norm_faults(norm, p8)]),
        ("describing gates of attention", lambda: [check_addresses(attention, p8, 2000)]),
        ("describing gates of FlowAR", lambda: [check_addresses(small, p8, 2000)]),
        *_proofs(),
    ]


def _proofs() -> Iterator[Check]:
    """Every layer, attention with both back ends, whole models, one for all its weights."""
    p8 = Precision(8)

    def one(*arguments: Any) -> Check:
        return f"proving {arguments[0].name}", lambda: [check_proof(*arguments)]

    for name in LAYERS:
        yield one(layer_program(name, 2, 4), p8)
    for n, bits, backend in ((3, 8, "table"), (4, 8, "table"), (2, 4, "crt"), (2, 10, "table"), (2, 10, "crt")):
        yield one(layer_program("attention", n, 2), Precision(bits), backend)
    for scales in ((1, 2), (2, 4), (1, 2, 4)):
        yield one(flowar_program(small_flowar(scales)), p8)
    yield one(flowar_program(small_flowar((1, 2))), p8, "table", False)


def _attention_faults(program: Program, precision: Precision) -> Finding:
    circuit = build(program, precision)
    return check_faults(circuit, spread_inputs(program, circuit, precision, 4096), 100, 0.9, program.name)


def _norm_faults(program: Program, precision: Precision) -> Finding:
    """On every input, so what is not noticed cannot be."""
    circuit = build(program, precision)
    return check_faults(circuit, every_input(circuit), 100, 0.9, f"{program.name}, all inputs")
