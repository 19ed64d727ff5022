"""The files of the page, read once: what a client names is looked up in a table and never opened."""

from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
MARK = (b'<html lang="en">', b'<html lang="en" data-server="yes">')
"""By which the page knows that a server's models are behind it, and no files beside it."""


@dataclass(frozen=True)
class File:
    """Content and type of one file."""

    content: bytes
    content_type: str


def page_files() -> dict[str, File]:
    """All files of the page by the path of their address, such as "/js/main.js"; "/" is index.html."""
    files: dict[str, File] = {}
    _collect(resources.files("flowgression.web") / "page", "/", files)
    page = files["/index.html"]
    assert MARK[0] in page.content
    files["/"] = files["/index.html"] = File(page.content.replace(*MARK), page.content_type)
    return files


def _collect(folder: Traversable, path: str, files: dict[str, File]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{path}{entry.name}/", files)
        elif (suffix := f".{entry.name.rpartition('.')[2]}") in TYPES:
            files[path + entry.name] = File(entry.read_bytes(), TYPES[suffix])
