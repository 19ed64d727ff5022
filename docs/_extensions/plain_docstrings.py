"""Docstrings are plain text with `names`, lists of "name: meaning" and indented formulas: here they become RST."""

import re

_CODE = re.compile(r"(`[^`]*`)")
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")
_ITEM = re.compile(r"^[a-z_]\w*(, [a-z_]\w*)*: ")


def _escape(line):
    """Bars, stars and underscores at the end of a word mean themselves outside of `names`."""
    parts = _CODE.split(line)
    parts[::2] = [re.sub(r"([|*])|(?<=\w)_(?!\w)", lambda found: "\\" + found[0], part) for part in parts[::2]]
    return "".join(parts)


def _paragraphs(lines):
    """Runs of lines without an empty one between them."""
    run = []
    for line in [*lines, ""]:
        if line.strip():
            run.append(line)
        elif run:
            yield run
            run = []


def _convert(paragraph):
    first = paragraph[0]
    if first.startswith(">>>"):
        return paragraph
    if first.startswith(" "):  # a formula or a table by hand
        return ["::", "", *paragraph]
    if _SECTION.match(first):  # for napoleon
        return [_escape(line) for line in paragraph]
    if _ITEM.match(first):  # one line for each name
        return [("  " if line.startswith(" ") else "| ") + _escape(line) for line in paragraph]
    return [_escape(line) for line in paragraph]


def prepare(app, what, name, obj, options, lines):
    """Rewrites the lines in place."""
    result = []
    for paragraph in _paragraphs(lines):
        result += [*_convert(paragraph), ""]
    lines[:] = result


def setup(app):
    """Before napoleon, which has priority 500."""
    app.connect("autodoc-process-docstring", prepare, priority=400)
    return {"parallel_read_safe": True}
