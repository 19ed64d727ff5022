"""Links that lead out of docs/ in the repository, and into it from the root, lead to the pages of the site."""

import re

_OUT = {
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../SECURITY.md": "security.md",
    "../configs": "configurations.md",
}
_INTO = re.compile(r"\]\(docs/([\w/-]+\.md)")


def _site_links(text):
    for link, page in _OUT.items():
        text = text.replace(f"]({link})", f"]({page})")
    return _INTO.sub(r"](\1", text)


def _read(app, docname, source):
    source[0] = _site_links(source[0])


def _included(app, path, parent, content):
    content[0] = _site_links(content[0])


def setup(app):
    """Applies to pages and to what they include."""
    app.connect("source-read", _read)
    app.connect("include-read", _included)
    return {"parallel_read_safe": True}
