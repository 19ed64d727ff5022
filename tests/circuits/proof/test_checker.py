"""Circuits proved for every input: all layers and models, by a checker that knows nothing of the compiler."""

import ast
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import psutil
import pytest

from flowgression.circuits import (
    dit_program,
    flowar_program,
    layer_program,
    measured_precision,
    proof,
    random_dit,
    random_spec,
)
from flowgression.circuits.certify import certify
from flowgression.circuits.checks import small_flowar
from flowgression.circuits.claim import claim
from flowgression.circuits.compile import Precision, interpret, sample_inputs
from flowgression.circuits.programs import EXP_POLYNOMIAL, LAYERS
from flowgression.circuits.proof.checker import check_folder
from flowgression.circuits.proof.model import digest_of, evaluate, read_model
from flowgression.circuits.proof.schema import Damaged
from flowgression.circuits.scaling import flowar_family

FOLDER = Path(proof.__file__).parent
slow = pytest.mark.slow
LARGE = {"low-rank-attention", "flow-block"}
SMALL_LAYERS = [pytest.param(name, marks=slow) if name in LARGE else name for name in LAYERS]
"""All layers; the two whose proofs take seconds are slow, but parts of them are in other layers and small models."""


@pytest.mark.parametrize("backend", ["table", pytest.param("crt", marks=slow)])
@pytest.mark.parametrize("layer", SMALL_LAYERS)
def test_every_layer_is_proved(layer, backend, tmp_path):
    circuit = certify(layer_program(layer, n=1, width=2), Precision(5), tmp_path, backend=backend)
    report = check_folder(tmp_path)
    assert (report.gates, report.input_bits, report.assumed) == (circuit.num_gates, circuit.num_inputs, 0)


@pytest.mark.parametrize("backend", ["table", "crt"])
@pytest.mark.parametrize("bits", [4, pytest.param(8, marks=slow), pytest.param(10, marks=slow)])
@pytest.mark.parametrize("n", [2, pytest.param(3, marks=slow), pytest.param(4, marks=slow)])
def test_attention_is_proved(n, bits, backend, tmp_path):
    if (n, bits, backend) == (4, 10, "crt") and psutil.virtual_memory().available < 21 * 2**30:
        pytest.skip("takes 20.1 GiB of memory")
    certify(layer_program("attention", n, 2), Precision(bits), tmp_path, backend=backend)
    assert check_folder(tmp_path).integer_bits < 63


@pytest.mark.parametrize("layer", LAYERS)
@slow
def test_every_layer_is_proved_at_full_size(layer, tmp_path):
    certify(layer_program(layer, n=2, width=4), Precision(8), tmp_path)
    assert check_folder(tmp_path).calls > 0


@pytest.mark.parametrize(
    ("scales", "wired"), [((1, 2), True), ((1, 2), False), ((2, 4), True), ((1, 2, 4), True)], ids=str
)
@slow
def test_whole_models_are_proved(scales, wired, tmp_path):
    circuit = certify(flowar_program(small_flowar(scales)), Precision(8), tmp_path, wired=wired)
    assert check_folder(tmp_path).gates == circuit.num_gates


@pytest.mark.parametrize("wired", [pytest.param(True, marks=slow), False])
def test_a_small_model_is_proved(wired, tmp_path):
    circuit = certify(flowar_program(small_flowar((1, 2))), Precision(4), tmp_path, wired=wired)
    assert check_folder(tmp_path).gates == circuit.num_gates


def small_model(name):
    """SiT of one step, ARFlow of two so that its state is read, FastFlowAR and HOFAR with scales 1 and 2; width 2."""
    if name == "HOFAR":
        spec = small_flowar((1, 2))
        sizes = {field.name: getattr(spec, field.name) for field in fields(spec) if field.name != "arrays"}
        return flowar_program(random_spec(0, **sizes | {"accelerated": True}))
    if name == "FastFlowAR":
        return flowar_family([(1, 2), (2, 4)], polynomial_coefficients=EXP_POLYNOMIAL).programs[0]
    context = None if name == "SiT" else name.split()[1]
    times = (0.0, 1.0) if context is None else (0.0, 0.5, 1.0)
    return dit_program(random_dit(0, grid=(1, 2), width=2, mlp_width=2, num_classes=2, times=times, context=context))


KINDS = ["SiT", *(pytest.param(name, marks=slow) for name in ("ARFlow hybrid", "ARFlow linear", "FastFlowAR", "HOFAR"))]


@pytest.mark.parametrize("measured", [False, pytest.param(True, marks=slow)])
@pytest.mark.parametrize("name", KINDS)
def test_small_models_of_every_kind_are_proved(name, measured, tmp_path):
    program = small_model(name)
    precision = measured_precision(program, 5) if measured else Precision(5)
    circuit = certify(program, precision, tmp_path)
    assert check_folder(tmp_path).gates == circuit.num_gates


@pytest.mark.parametrize("layer", [*SMALL_LAYERS, pytest.param("flowar", marks=slow)])
def test_the_claimed_model_is_the_integer_model(layer, tmp_path):
    """Formulas of plain Python integers against the interpreter on int64 arrays."""
    program = flowar_program(small_flowar((1, 2))) if layer == "flowar" else layer_program(layer, 2, 2)
    precision = Precision(4 if layer == "flowar" else 8)
    certify(program, precision, tmp_path)
    model = read_model(json.loads((tmp_path / "certificate.json").read_text())["model"])
    inputs = sample_inputs(program, precision, 8, spread=3.0)
    expected = interpret(program, precision, inputs).outputs
    for k in range(8):
        found = evaluate(model, {name: values[k].reshape(-1).tolist() for name, values in inputs.items()})
        assert found == {name: values[k].reshape(-1).tolist() for name, values in expected.items()}


def test_the_checker_imports_nothing_of_the_package_but_itself():
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            for name in names:
                known = name.split(".")[0] in {*sys.stdlib_module_names, "numpy"}
                assert known or name.startswith("flowgression.circuits.proof."), f"{path.name} imports {name}"
            called = getattr(getattr(node, "func", None), "id", None)
            assert called not in {"__import__", "exec", "eval"}


def test_the_checker_runs_alone_and_its_status_tells(tmp_path):
    program = layer_program("rms-norm", 1, 2)
    certify(program, Precision(4), tmp_path)
    command = [sys.executable, "-m", "flowgression.circuits.proof.checker", str(tmp_path)]
    code = (
        "import sys\nfrom flowgression.circuits.proof import checker\nassert checker.main(sys.argv[1:]) == 0\n"
        "ours = [n for n in sys.modules if n.startswith('flowgression.circuits.')]\n"
        "print([n for n in ours if not n.startswith('flowgression.circuits.proof')], 'torch' in sys.modules)"
    )
    alone = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert alone.stdout.splitlines()[-1] == "[] False"
    right = subprocess.run(command, capture_output=True, text=True, check=False)
    assert right.returncode == 0
    assert right.stdout.startswith("PROVED for every input: ")
    assert f"claim: SHA-256 {digest_of(claim(program, Precision(4)))}" in right.stdout
    path = tmp_path / "certificate.json"
    path.write_text(path.read_text().replace('"plus":1', '"plus":2', 1))
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("NOT PROVED: ")
    assert subprocess.run([*command, "more"], capture_output=True, check=False).returncode == 2


def test_missing_and_foreign_files_are_rejected(tmp_path):
    with pytest.raises(Damaged, match="No such file"):
        check_folder(tmp_path)
    np.savez(tmp_path / "circuit.npz", header=np.array("{}"))
    with pytest.raises(Damaged, match="other members"):
        check_folder(tmp_path)
