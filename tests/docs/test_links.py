"""Links of the documents lead to files that are there, and to headings that they have."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="not in a checkout")


def prose(text: str) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    """Those of the headings of a page, as GitHub and MyST make them."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower())
        found.add(words.strip().replace(" ", "-"))
    return found


def broken(page: Path) -> Iterator[str]:
    """Links of a page that lead nowhere. Tutorials are copied into docs/notebooks when the site is built."""
    for target, anchor in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        path = (page.parent / target).resolve() if target else page
        if not path.exists() and (ROOT / "docs" / "notebooks") in path.parents:
            path = ROOT / "notebooks" / path.name
        if not path.exists():
            yield f"{page.relative_to(ROOT)}: {target} is not there"
        elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text(encoding="utf-8")):
            yield f"{page.relative_to(ROOT)}: {target or page.name} has no heading #{anchor}"


def test_no_link_is_broken() -> None:
    assert len(PAGES) > 40
    assert [line for page in PAGES for line in broken(page)] == []


def test_broken_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.test_links.ROOT", tmp_path)
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# A title: with `code` and n^2\n```\n# no heading\n```\n")
    good = "[a](other.md) [b](other.md#a-title-with-code-and-n2) [c](#here) `[d](x.md)` [e](https://host/x)"
    page.write_text(f"# Here\n{good}\n")
    assert list(broken(page)) == []
    page.write_text("[a](absent.md) [b](other.md#no-heading) [c](#there)\n")
    assert [line.partition(": ")[2] for line in broken(page)] == [
        "absent.md is not there",
        "other.md has no heading #no-heading",
        "page.md has no heading #there",
    ]
