"""Names of others are text: not orders to a terminal, not markup of a report, not formulas of a plot. A leaf."""

import re
from typing import IO

# C0 and C1 controls, marks that turn the direction of writing, halves of characters.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*\[\]<>|~$#!])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def plain(text: object, keep: str = "\n\t") -> str:
    r"""`text` with its control characters written out, such as \x1b; those in `keep` stay."""

    def shown(match: re.Match[str]) -> str:
        character = match[0]
        return character if character in keep else character.encode("unicode_escape").decode("ascii")

    return _CONTROL.sub(shown, str(text))


def one_line(text: object) -> str:
    """`plain`, line breaks and tabs too."""
    return plain(text, keep="")


def markdown(text: object) -> str:
    """`text` as it is, on one line, in a document or a table of Markdown: no HTML, links, code or formulas."""
    escaped = _MARKDOWN.sub(lambda match: f"\\{match[0]}", one_line(text).replace("&", "&amp;"))
    return escaped.replace("\\<", "&lt;").replace("\\>", "&gt;").replace("://", ":&#47;/")


def without_formulas(text: object) -> str:
    """`text` as it is, on one line, in a plot of matplotlib: no formulas."""
    return one_line(text).replace("$", r"\$")


def say(*values: object, file: IO[str] | None = None, flush: bool = False) -> None:
    """`print`, with control characters written out."""
    print(*map(plain, values), file=file, flush=flush)
