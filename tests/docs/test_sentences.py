"""Guides have short sentences; the log, and the proofs in theory-reference.md, may have longer ones."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PROOFS = "theory-reference.md"
PAGES = [page for page in (DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))) if page.name != PROOFS]
LONGEST = 30  # words
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="not in a checkout")


def sentences(text: str) -> Iterator[str]:
    """Those of the prose: no code, formulas, tables, headings, pictures or stamps; a colon or semicolon ends one."""
    for pattern in (r"```.*?```", r"\$\$.*?\$\$", r"<!--.*?-->"):
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*[-*] |\s*\d+\. |#|\||>)", text):
        line = " ".join(paragraph.split())
        if line and not line.startswith(("|", "#", "![", "*2")):
            line = re.sub(r"`[^`]*`", "code", re.sub(r"\]\([^)]*\)", "]", line))
            yield from re.split(r"(?<=[.!?:;])[*)\"]*\s+", line)


def test_sentences_are_short() -> None:
    found = [(page.name, each) for page in PAGES for each in sentences(page.read_text(encoding="utf-8"))]
    assert len(found) > 500
    assert [(name, each) for name, each in found if len(re.findall(r"\S*\w\S*", each)) > LONGEST] == []


def test_long_sentences_are_found() -> None:
    page = f"# {'a ' * 40}\n\n| {'a ' * 40}|\n\n{'b ' * 31}end. Short."
    assert list(sentences(page)) == ["b " * 31 + "end.", "Short."]
