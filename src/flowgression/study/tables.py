"""Tables in Markdown."""

from collections.abc import Sequence

from flowgression.text import markdown


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what is in its cells is text."""
    first, *others = ([markdown(cell) for cell in row] for row in (head, *rows))
    lines = [first, ["---"] * len(head), *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
