"""proofs/ and the page about it say the same; Coq itself runs in `make proofs`."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROOFS = ROOT / "proofs"
pytestmark = pytest.mark.skipif(not PROOFS.exists(), reason="not in a checkout")


def test_the_page_shows_the_statement_that_is_proved() -> None:
    page, statement = (ROOT / "docs/proofs.md").read_text(), (PROOFS / "Statement.v").read_text()
    assert re.findall(r"```coq\n(.*?)\n```", page, re.DOTALL) == [statement.rstrip("\n")]
    name = re.search(r"^Definition (\w+) : Prop :=$", statement, re.MULTILINE)[1]
    theorem = re.search(rf"^Theorem (\w+) : {name}\.$", (PROOFS / "Main.v").read_text(), re.MULTILINE)[1]
    assert f"`{theorem} : {name}`" in page
    assert f"Print Assumptions {theorem}." in (PROOFS / "Assumptions.v").read_text()


def test_the_depth_in_words_is_the_depth_in_coq() -> None:
    """Both formulas on several architectures."""
    page, statement = (ROOT / "docs/proofs.md").read_text(), (PROOFS / "Statement.v").read_text()
    words = re.search(r"^D = (.*)\.$", page, re.MULTILINE)[1]
    coq = re.search(r"depth_of \(A : architecture\) : nat :=\s*(.*?)\.\n", statement, re.DOTALL)[1]
    fields = ("scales_of", "encoder_blocks", "decoder_blocks", "flow_blocks_of", "euler_steps", "halves_of")
    for sizes in ((1, 1, 1, 1, 1, 1), (5, 6, 6, 2, 25, 2), (2, 0, 3, 4, 7, 1)):
        values = dict(zip(fields, sizes, strict=True))
        formal = coq
        for field in fields:
            formal = formal.replace(f"{field} A", str(values[field]))
        letters = {"K": sizes[0], "L": sizes[1] + sizes[2], "F": sizes[3], "N": sizes[4], "G": sizes[5]}
        informal = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", words)
        assert eval(formal) == eval(informal, letters)


def test_every_file_is_compiled_and_assumes_nothing() -> None:
    files = (PROOFS / "order").read_text().split()
    assert sorted([*files, "Extract", "Numbers"]) == sorted(path.stem for path in PROOFS.glob("*.v"))
    for name in files:
        text = (PROOFS / f"{name}.v").read_text()
        assert not re.findall(r"\b(?:Axiom|Parameter|Conjecture|Admitted|admit)\b", text), name


def test_the_workflow_and_the_merge_check_run_make_proofs() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/proofs.yml").read_text())["jobs"]["proofs"]
    assert any("make proofs" in step.get("run", "") for step in job["steps"])
    assert "bash proofs/check.sh" in (ROOT / ".ci/run").read_text()
    assert "bash proofs/check.sh" in (ROOT / "Makefile").read_text()
