"""Exported circuits, read and run by other tools where they are installed."""

import shutil
import subprocess

import numpy as np
import pytest

from flowgression import InputError
from flowgression.circuits import build, evaluate, layer_program
from flowgression.circuits.certify_cells import certify_cells
from flowgression.circuits.compile import Input, Precision, Program
from flowgression.circuits.export import banks, export
from flowgression.circuits.proof.checker import check_folder
from flowgression.cli.circuit import run

CELLS = ("linear", "rms-norm", "euler-step")


def needs(tool):
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def small(name, bits=4):
    return build(layer_program(name, 1, 2), Precision(bits))


def random_bits(circuit, samples, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (samples, circuit.num_inputs)).astype(bool)


def number(bits):
    """The bits as one integer, low first."""
    return int("".join("01"[int(bit)] for bit in bits[::-1]), 2)


def write(circuit, format, path):
    path.write_text("".join(export(circuit, format)))
    return path


@pytest.mark.parametrize("name", CELLS)
def test_one_sum_for_each_bank_and_two_inequalities_for_each_gate(name):
    circuit = small(name)
    text = "".join(export(circuit, "verilog"))
    assert text.count("wire [") == len(circuit.row_ptr) - 1 == len(list(banks(circuit)))
    assert text.count("wire g") == circuit.num_gates
    constraints = [line for line in export(circuit, "opb") if not line.startswith("*")]
    assert len(constraints) == 2 * circuit.num_gates
    for bits in random_bits(circuit, 20):
        nodes = _all_nodes(circuit, bits)
        assert all(_holds(line, nodes) for line in constraints)
        gate = int(nodes.sum()) % circuit.num_gates + circuit.num_inputs
        nodes[gate] ^= True  # no other value of a gate fits the rest
        assert not all(_holds(line, nodes) for line in constraints)


def _all_nodes(circuit, bits):
    values = np.concatenate([bits, np.zeros(circuit.num_gates, dtype=bool)])
    for gate, theta in enumerate(circuit.theta):
        nodes, weights = circuit.row_of(gate)
        values[circuit.num_inputs + gate] = weights @ values[nodes] >= theta
    return values


def _holds(line, nodes):
    left, right = line.rstrip(";\n").split(">=")
    words = left.split()
    total = sum(int(w) * int(nodes[int(x[1:]) - 1]) for w, x in zip(words[::2], words[1::2], strict=True))
    return total >= int(right)


@pytest.mark.parametrize("name", ["linear", pytest.param("rms-norm", marks=pytest.mark.slow)])
def test_blif_read_by_its_own_rules(name):
    circuit = small(name)
    inputs = random_bits(circuit, 40)
    tables, name = {}, None
    for line in "".join(export(circuit, "blif")).splitlines():
        if line.startswith(".names"):
            *reads, name = line.split()[1:]
            tables[name] = (reads, [])
        elif not line.startswith("."):
            tables[name][1].append(line)

    def value(name, known):
        if name not in known:
            reads, rows = tables[name]
            bits = "".join("01"[value(each, known)] for each in reads)
            patterns = [row.split()[0] if reads else "" for row in rows]
            known[name] = any(all(p in ("-", b) for p, b in zip(pattern, bits, strict=True)) for pattern in patterns)
        return known[name]

    expected = evaluate(circuit, inputs)
    for bits, outputs in zip(inputs, expected, strict=True):
        known = {f"x{k}": bool(bit) for k, bit in enumerate(bits)}
        assert [value(f"y{k}", known) for k in range(len(outputs))] == outputs.tolist()


@needs("iverilog")
@pytest.mark.parametrize("name", CELLS)
def test_iverilog_runs_cells(name, tmp_path):
    circuit = small(name)
    write(circuit, "verilog", tmp_path / "c.v")
    inputs = random_bits(circuit, 300)
    n, m = circuit.num_inputs, len(circuit.outputs)
    (tmp_path / "in.hex").write_text("\n".join(f"{number(bits):x}" for bits in inputs))
    (tmp_path / "t.v").write_text(
        f"module t; reg [{n - 1}:0] v [0:{len(inputs) - 1}]; reg [{n - 1}:0] x; wire [{m - 1}:0] y; integer i;\n"
        f'circuit c(x, y); initial begin $readmemh("{tmp_path}/in.hex", v);\n'
        f'for (i = 0; i < {len(inputs)}; i = i + 1) begin x = v[i]; #1 $display("%b", y); end end endmodule\n'
    )
    subprocess.run(["iverilog", "-o", tmp_path / "t", tmp_path / "t.v", tmp_path / "c.v"], check=True)
    lines = subprocess.run([tmp_path / "t"], capture_output=True, text=True, check=True).stdout.split()
    assert lines == ["".join("01"[int(bit)] for bit in row[::-1]) for row in evaluate(circuit, inputs)]


@needs("verilator")
@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 8])
def test_verilator_runs_attention_on_100000_inputs(bits, tmp_path):
    """Without optimisation, since the C++ of 43,648 gates takes its time to compile."""
    circuit = build(layer_program("attention", 2, 2), Precision(bits))
    write(circuit, "verilog", tmp_path / "circuit.v")
    inputs = random_bits(circuit, 100_000)
    assert circuit.num_inputs == len(circuit.outputs) == 8 * bits
    np.packbits(inputs, axis=1, bitorder="little").tofile(tmp_path / "in.bin")
    (tmp_path / "main.cpp").write_text(
        '#include "Vcircuit.h"\n#include <cstdio>\n#include <cstdint>\nint main() { Vcircuit c; '
        f"uint{8 * bits}_t x, y;\nwhile (fread(&x, sizeof x, 1, stdin) == 1) "
        "{ c.x = x; c.eval(); y = c.y; fwrite(&y, sizeof y, 1, stdout); } }\n"
    )
    options = ["--cc", "--exe", "-Wno-fatal", "-O3", "--output-split", "2000", "--Mdir", tmp_path / "obj"]
    command = ["verilator", *options, tmp_path / "circuit.v", tmp_path / "main.cpp"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    unoptimised = [f"OPT_{part}=-O0" for part in ("FAST", "SLOW", "GLOBAL")]
    make = ["make", "-C", tmp_path / "obj", "-f", "Vcircuit.mk", "VM_PARALLEL_BUILDS=0", *unoptimised]
    subprocess.run(make, check=True, capture_output=True)
    with open(tmp_path / "in.bin", "rb") as file:
        found = subprocess.run([tmp_path / "obj" / "Vcircuit"], stdin=file, capture_output=True, check=True).stdout
    expected = np.packbits(evaluate(circuit, inputs), axis=1, bitorder="little")
    assert np.array_equal(np.frombuffer(found, dtype=np.uint8).reshape(-1, bits), expected)


@needs("minisat+")
def test_a_pseudo_boolean_solver_evaluates_a_cell_and_finds_no_other_output(tmp_path):
    circuit = small("linear")
    text = "".join(export(circuit, "opb"))
    for k, bits in enumerate(random_bits(circuit, 4)):
        given = "".join(f"+1 x{i + 1} = {int(bit)};\n" for i, bit in enumerate(bits))
        output = evaluate(circuit, bits[None])[0]
        for wrong in (False, True):
            pinned = [f"+1 x{n + 1} = {int(b)};\n" for n, b in zip(circuit.outputs, output ^ wrong, strict=True)]
            path = tmp_path / f"{k}{wrong}.opb"
            path.write_text(text + given + (pinned[0] if wrong else "".join(pinned)))
            said = subprocess.run(["minisat+", path], capture_output=True, text=True, check=False).stdout
            assert ("s UNSATISFIABLE" if wrong else "s SATISFIABLE") in said


@needs("yosys")
def test_yosys_reads_a_cell(tmp_path):
    circuit = small("linear")
    write(circuit, "blif", tmp_path / "c.blif")
    inputs = random_bits(circuit, 3)
    ports = " ".join(f"-show y{k}" for k in range(len(circuit.outputs)))
    for bits, expected in zip(inputs, evaluate(circuit, inputs), strict=True):
        pinned = " ".join(f"-set x{k} {int(bit)}" for k, bit in enumerate(bits))
        proved = " ".join(f"-prove y{k} {int(bit)}" for k, bit in enumerate(expected))
        script = f"read_blif {tmp_path}/c.blif; sat {pinned} {ports} {proved} circuit"
        said = subprocess.run(["yosys", "-p", script], capture_output=True, text=True, check=True).stdout
        assert "SAT proof finished - no model found: SUCCESS" in said


def test_a_layer_norm_is_proved_by_cells(tmp_path, capsys):
    """The centred sum with the cell of its total beside it; also with a constant among the numbers."""
    assert run(["prove", "--cells", "layer-norm", "--n", "1", "--bits", "4", "--out", str(tmp_path / "p")]) == 0
    assert "1 centred_square_sum" in capsys.readouterr().out

    def body(ops, given):
        x = given["x"].data
        x = np.concatenate([x, ops.constant(np.array([[3]]))], axis=-1)
        return {"y": ops.centred_square_sum(x, ops.total(x))}

    certify_cells(Program("centred", {"x": Input((1, 2))}, body), Precision(4), tmp_path / "q", wired=True)
    assert check_folder(tmp_path / "q").cells == {"total": 1, "centred_square_sum": 1}


def test_a_total_of_other_numbers_is_refused_by_name(tmp_path):
    def body(ops, given):
        x = given["x"].data
        return {"y": ops.centred_square_sum(x, ops.total(x, plus=1))}

    program = Program("wrong", {"x": Input((1, 2))}, body)
    with pytest.raises(InputError, match="without --cells"):
        certify_cells(program, Precision(4), tmp_path, wired=True)


def test_command_proves_and_exports(tmp_path, capsys):
    small_layer = ["linear", "--n", "1", "--bits", "4"]
    assert run(["prove", *small_layer, "--out", str(tmp_path / "p")]) == 0
    assert run(["prove", "--cells", *small_layer, "--out", str(tmp_path / "q")]) == 0
    for format, suffix in (("verilog", ".v"), ("opb", ".opb"), ("blif", ".blif")):
        assert (
            run(["export", str(tmp_path / "p/circuit.npz"), "--format", format, "--out", f"{tmp_path}/c{suffix}"]) == 0
        )
    said = capsys.readouterr().out
    assert "PROVED for every input" in said
    assert "PROVED for every argument of the cells" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["prove", "linear"], "--out is not given"),
        (["prove", "flowar-s", "--out", "p"], "--cells"),
        (["export", "linear", "--format", "vhdl", "--out", "c.v"], "format is 'vhdl'"),
        (["export", "linear", "--out", "c.opb"], r"ends in \.v"),
        (["compile", "linear", "--cells", "--out", "c.npz"], "--cells has no meaning"),
    ],
)
def test_command_names_what_is_wrong(argv, message):
    with pytest.raises(InputError, match=message):
        run(argv)
