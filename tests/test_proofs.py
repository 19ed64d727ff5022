"""proofs/ and the page about it say the same; Coq itself runs in `make proofs`."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROOFS = ROOT / "proofs"
pytestmark = pytest.mark.skipif(not PROOFS.exists(), reason="not in a checkout")


STATEMENTS = {"Statement.v": "Main.v", "Statement_DiT.v": "Main_DiT.v"}
"""File of a statement -> of its proof."""


def test_the_page_shows_the_statements_that_are_proved() -> None:
    page = (ROOT / "docs/proofs.md").read_text()
    statements = {file: (PROOFS / file).read_text() for file in STATEMENTS}
    assert re.findall(r"```coq\n(.*?)\n```", page, re.DOTALL) == [each.rstrip("\n") for each in statements.values()]
    for file, statement in statements.items():
        name = re.search(r"^Definition (\w+) : Prop :=$", statement, re.MULTILINE)[1]
        theorem = re.search(rf"^Theorem (\w+) : {name}\.$", (PROOFS / STATEMENTS[file]).read_text(), re.MULTILINE)[1]
        assert f"`{theorem} : {name}`" in page
        assert f"Print Assumptions {theorem}." in (PROOFS / "Assumptions.v").read_text()


DEPTHS = {
    "Statement.v": (
        r"^D = (3 K .*)\.$",
        r"depth_of \(A : architecture\)",
        ("scales_of", "encoder_blocks", "decoder_blocks", "flow_blocks_of", "euler_steps", "halves_of"),
        lambda k, encoder, decoder, f, n, g: {"K": k, "L": encoder + decoder, "F": f, "N": n, "G": g},
    ),
    "Statement_DiT.v": (
        r"^D = (3 \(1 .*)\.$",
        r"dit_depth \(A : dit_architecture\)",
        ("softmax_blocks", "hybrid_blocks", "dit_steps", "dit_halves"),
        lambda s, h, n, g: {"S": s, "H": h, "N": n, "G": g},
    ),
}
"""File of a statement -> its depth on the page and in Coq, the fields of an architecture, and the page's letters."""


@pytest.mark.parametrize("file", DEPTHS)
def test_the_depth_in_words_is_the_depth_in_coq(file: str) -> None:
    """Both formulas on several architectures."""
    page, statement = (ROOT / "docs/proofs.md").read_text(), (PROOFS / file).read_text()
    said, defined, fields, letters = DEPTHS[file]
    words = re.search(said, page, re.MULTILINE)[1]
    coq = re.search(rf"{defined} : nat :=\s*(.*?)\.\n", statement, re.DOTALL)[1]
    for sizes in ((1, 1, 1, 1, 1, 1), (5, 6, 6, 2, 25, 2), (2, 0, 3, 4, 7, 1)):
        sizes = sizes[: len(fields)]
        formal = coq
        for field, value in zip(fields, sizes, strict=True):
            formal = formal.replace(f"{field} A", str(value))
        informal = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", words)
        assert eval(formal) == eval(informal, letters(*sizes))


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
