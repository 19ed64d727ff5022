"""The models of the theorems (proofs/FlowAR.v, proofs/DiT.v) and the package's, on numbers."""

import subprocess
from pathlib import Path

import pytest

from tests.circuits import dit_numbers, flowar_numbers

PROOFS = Path(__file__).parents[2] / "proofs"
PROGRAM = PROOFS / "build/numbers"
SAMPLES = {"flowar": 20, "guided": 5, "sit": 10, "arflow": 10}


def text(name: str, samples: int, path: Path, meant: int = 3) -> None:
    module = dit_numbers if name in dit_numbers.MODELS else flowar_numbers
    module.text(name, samples, path, meant)


@pytest.mark.skipif(not PROOFS.exists(), reason="not in a checkout")
@pytest.mark.parametrize("name", SAMPLES)
def test_make_proofs_compares_the_numbers_of_today(name: str, tmp_path: Path) -> None:
    """The file that `make proofs` runs the theorem's model on is what the package writes, outputs included."""
    text(name, SAMPLES[name], tmp_path / "numbers.txt", meant=1)
    assert (tmp_path / "numbers.txt").read_text() == (PROOFS / f"examples/numbers-{name}.txt").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAM.exists(), reason="run `make proofs`: it builds the extracted model")
@pytest.mark.parametrize("name", SAMPLES)
def test_a_thousand_inputs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    text(name, 1000, path)
    found = subprocess.run([PROGRAM, path], capture_output=True, text=True, check=True)
    assert "of 1000 inputs compared, 0 differ" in found.stdout
    lines = path.read_text().splitlines()
    words = lines[-1].split(" ")
    words[-1] = str(int(words[-1]) ^ 1)
    path.write_text("\n".join([*lines[:-1], " ".join(words)]))
    assert subprocess.run([PROGRAM, path], capture_output=True, check=False).returncode == 1
