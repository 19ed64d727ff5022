"""Sphinx builds docs/_build/html from this folder and ../notebooks; `make docs` does it all, without a network."""

import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT / "src"), str(DOCS / "_extensions")]

import flowgression  # noqa: E402

project = "flowgression"
author = "the authors of flowgression"
project_copyright = "Apache-2.0"
release = flowgression.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "mathml",
    "plain_docstrings",
    "repository_links",
]
exclude_patterns = ["_build", "_extensions"]
default_role = "code"  # `name` in docstrings
nitpicky = False

# Markdown
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

# Notebooks: written as text in ../notebooks, executed here; results are kept while their source stays the same.
shutil.copytree(ROOT / "notebooks", DOCS / "notebooks", dirs_exist_ok=True)
nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS / "_build" / "notebooks")
nb_execution_timeout = 600  # of a cell; a whole notebook takes less than three minutes on two cores
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True

# Reference
autodoc_member_order = "alphabetical"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 100

# Pages
html_theme = "furo"
html_title = "flowgression"
html_copy_source = False
html_show_sphinx = False

# The interactive page, where `make site` has built it
SITE = DOCS / "_build" / "site"
if (SITE / "index.html").is_file():
    tags.add("page")  # type: ignore[name-defined]  # noqa: F821


def setup(app):
    """Puts the interactive page beside the documents."""

    def add_page(app, error):
        if error is None and app.builder.name == "html" and app.tags.has("page"):
            shutil.copytree(SITE, Path(app.outdir) / "page", dirs_exist_ok=True)

    app.connect("build-finished", add_page)
