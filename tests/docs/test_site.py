"""The documentation site: nothing is left out, every example is right, and the pages fetch nothing from elsewhere."""

import doctest
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest

import flowgression
from tests.test_public_api import PUBLIC

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = Path(flowgression.__file__).parent
EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_in_docstrings_are_right(path: Path) -> None:
    name = ".".join(("flowgression", *path.relative_to(PACKAGE).with_suffix("").parts))
    outcome = doctest.testmod(import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_every_public_package_has_its_page() -> None:
    pages = {path.stem for path in (DOCS / "reference").glob("*.md")} - {"index"}
    assert pages == {name.rpartition(".")[2] for name in PUBLIC}


def test_every_configuration_is_shown() -> None:
    shown = re.findall(r"literalinclude\} \.\./configs/(\S+)", (DOCS / "configurations.md").read_text())
    assert shown == sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


def test_every_document_is_in_the_table_of_contents() -> None:
    listed = re.findall(r"^[\w/-]+$", (DOCS / "index.md").read_text(), re.MULTILINE)
    pages = [path.relative_to(DOCS) for folder in (".", "benchmarks") for path in (DOCS / folder).glob("*.md")]
    missing = {path.with_suffix("").as_posix() for path in pages} - {*listed, "index"}
    assert not missing, "add them to a toctree of docs/index.md"


class Requests(HTMLParser):
    """What a browser loads by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "embed", "video", "audio"):
            self.urls.append(values.get("src") or "")
        elif tag == "link" and (values.get("rel") or "") not in ("next", "prev", "search", "index", "canonical"):
            self.urls.append(values.get("href") or "")


def requests_of(html: str) -> list[str]:
    """Their addresses."""
    parser = Requests()
    parser.feed(html)
    return parser.urls


def test_a_foreign_request_is_found() -> None:
    page = '<link rel="stylesheet" href="https://x/a.css"><script src="//x/a.js"></script><a href="https://x">'
    assert [url for url in requests_of(page) if "//" in url] == ["https://x/a.css", "//x/a.js"]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("myst_nb")
    pytest.importorskip("latex2mathml")
    for builder in ("doctest", "html"):
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", builder]
        command += ["-d", str(tmp_path / "doctrees"), "-D", f"nb_execution_cache_path={tmp_path / 'notebooks'}"]
        done = subprocess.run(
            [*command, str(DOCS), str(tmp_path / builder)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
    assert re.search(r"[1-9]\d* tests\n    0 failures in tests", (tmp_path / "doctest" / "output.txt").read_text())
    html = tmp_path / "html"
    pages = sorted(html.rglob("*.html"))
    foreign = {url for page in pages for url in requests_of(page.read_text()) if re.match(r"(\w+:)?//", url)}
    foreign |= {str(path) for path in html.rglob("*.css") if re.search(r"url\(['\"]?(https?:)?//", path.read_text())}
    assert not foreign
    assert "<math" in (html / "index.html").read_text()
    for name in PUBLIC:
        if name != "flowgression":  # its names are links to where they are described
            text = (html / "reference" / f"{name.rpartition('.')[2]}.html").read_text()
            for public in import_module(name).__all__:
                assert f'id="{name}.{public}"' in text, f"{name}.{public} is not in the reference"
    for notebook in (ROOT / "notebooks").glob("*.md"):
        assert "cell_output" in (html / "notebooks" / f"{notebook.stem}.html").read_text()
