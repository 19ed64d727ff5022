"""Formulas as MathML, which browsers draw themselves: no script, no font and no image is fetched."""

from html import escape

from docutils import nodes
from latex2mathml.converter import convert


def _inline(self, node):
    self.body.append(f'<span class="math" title="{escape(node.astext())}">{convert(node.astext())}</span>')
    raise nodes.SkipNode


def _display(self, node):
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app):
    """Registers the renderer and chooses it."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
