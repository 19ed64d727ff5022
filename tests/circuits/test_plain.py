"""Proofs as text: they say what the circuit and the model are, and the checker of proofs/ accepts no lie among them."""

import json
import random
import subprocess
from pathlib import Path

import pytest

from flowgression import InputError
from flowgression.circuits import Precision, measured_precision
from flowgression.circuits.certify import certify
from flowgression.circuits.plain import write_text
from flowgression.circuits.programs import LAYERS
from flowgression.circuits.proof.checker import check_folder
from flowgression.cli.circuit import run
from tests.circuits.plain import Claim
from tests.circuits.proof.test_checker import small_model

PROOFS = Path(__file__).parents[2] / "proofs"
CHECKER = PROOFS / "build/checker"


def wrong_inputs(claim: Claim) -> int:
    """On how many of all inputs the circuit is not the model."""
    nodes = claim.input_nodes()
    assignments = [{n: bool(k >> j & 1) for j, n in enumerate(nodes)} for k in range(1 << len(nodes))]
    return sum(not claim.holds_for(each) for each in assignments)


@pytest.mark.parametrize("layer", ["mlp", "rms-norm", "up-sampling"])
def test_the_text_is_a_circuit_that_computes_its_model(layer: str, tmp_path: Path) -> None:
    assert run(["prove", layer, "--n", "1", "--bits", "4", "--text", "--out", str(tmp_path)]) == 0
    assert wrong_inputs(Claim(tmp_path / "proof.txt")) == 0


def test_names_of_ports_are_the_models(tmp_path: Path) -> None:
    """The text has no names, so its writer compares them."""
    assert run(["prove", "euler-step", "--n", "1", "--bits", "4", "--out", str(tmp_path)]) == 0
    path = tmp_path / "certificate.json"
    certificate = json.loads(path.read_text())
    certificate["model"]["outputs"][0][0] += "x"
    path.write_text(json.dumps(certificate))
    with pytest.raises(InputError, match="other names"):
        write_text(tmp_path)


@pytest.mark.skipif(not PROOFS.exists(), reason="not in a checkout")
def test_forged_examples_are_wrong_and_honest_ones_right() -> None:
    found = {path.stem: wrong_inputs(Claim(path)) for path in sorted((PROOFS / "examples").glob("[fh]o*.txt"))}
    assert len(found) >= 5
    assert all((wrong > 0) == name.startswith("forged-") for name, wrong in found.items()), found


def verdict(path: Path) -> int:
    """0 for PROVED, 1 for NOT PROVED, 2 for no such text, 3 for UNDECIDED."""
    found = subprocess.run([CHECKER, path], capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1, 2, 3), found
    return found.returncode


@pytest.mark.slow
@pytest.mark.skipif(not CHECKER.exists(), reason="run `make proofs`: it builds the extracted checker")
def test_the_extracted_checker_accepts_no_lie(tmp_path: Path) -> None:
    """Texts with one to three numbers changed: what it accepts is right on all inputs."""
    text = (PROOFS / "examples/honest-mlp.txt").read_text().splitlines()
    generator, refused, path = random.Random(0), 0, tmp_path / "forged.txt"
    for _ in range(1000):
        lines = list(text)
        for _ in range(generator.randint(1, 3)):
            k = generator.randrange(2, len(lines))
            words = lines[k].split(" ")
            places = [j for j, word in enumerate(words) if word.lstrip("-").isdigit()]
            for j in generator.sample(places, min(1, len(places))):
                words[j] = str(int(words[j]) + generator.choice([-1, 1, 2]))
            lines[k] = " ".join(words)
        path.write_text("\n".join(lines))
        if verdict(path) == 0:
            assert wrong_inputs(Claim(path)) == 0, "\n".join(lines)
        else:
            refused += 1
    assert refused > 500


@pytest.mark.slow
@pytest.mark.skipif(not CHECKER.exists(), reason="run `make proofs`: it builds the extracted checker")
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_both_checkers_prove_every_layer(layer: str, tmp_path: Path) -> None:
    assert run(["prove", layer, "--n", "2", "--width", "2", "--text", "--out", str(tmp_path)]) == 0
    assert verdict(tmp_path / "proof.txt") == 0


@pytest.mark.slow
@pytest.mark.skipif(not CHECKER.exists(), reason="run `make proofs`: it builds the extracted checker")
def test_both_checkers_prove_a_whole_model(tmp_path: Path) -> None:
    assert run(["prove", "flowar", "--scales", "1,2", "--text", "--out", str(tmp_path)]) == 0
    assert verdict(tmp_path / "proof.txt") == 0


@pytest.mark.slow
@pytest.mark.skipif(not CHECKER.exists(), reason="run `make proofs`: it builds the extracted checker")
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("name", ["SiT", "ARFlow hybrid", "ARFlow linear", "FastFlowAR", "HOFAR"])
def test_both_checkers_prove_models_of_every_kind(name: str, measured: bool, tmp_path: Path) -> None:
    """But one: the highest of five measured scores has 25 input bits, which are too many to go through."""
    program = small_model(name)
    certify(program, measured_precision(program, 5) if measured else Precision(5), tmp_path)
    assert check_folder(tmp_path).calls > 0
    assert verdict(write_text(tmp_path)) == (3 if (name, measured) == ("HOFAR", True) else 0)
