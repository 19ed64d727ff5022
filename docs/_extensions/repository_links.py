"""Links that lead out of docs/ in the repository lead to the pages of the site that show the same."""

import re

_PAGES = {
    "../CONTRIBUTING.md": "contributing.md",
    "../configs": "configurations.md",
    "docs/dependencies.md": "dependencies.md",
}
_LINK = re.compile(r"\]\((" + "|".join(map(re.escape, _PAGES)) + r")\)")


def _read(app, docname, source):
    source[0] = _LINK.sub(lambda found: f"]({_PAGES[found[1]]})", source[0])


def _included(app, path, parent, content):
    content[0] = _LINK.sub(lambda found: f"]({_PAGES[found[1]]})", content[0])


def setup(app):
    """Applies to pages and to what they include."""
    app.connect("source-read", _read)
    app.connect("include-read", _included)
    return {"parallel_read_safe": True}
