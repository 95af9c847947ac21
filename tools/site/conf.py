"""Settings of Sphinx. Nothing is loaded from elsewhere, neither by the build nor by who reads the site."""

import re
from typing import Any

from sphinx.application import Sphinx

project = "Ratus"
html_title = "Ratus"
copyright = "the authors of Ratus"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
root_doc = "index"
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
default_role = "code"
myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]  # sessions with curl are no JSON
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

_SECTION = re.compile(r"\w+:$")
_COLON = "\ue000"  # stands for one


def mark_code(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Tell Sphinx that what is indented in our docstrings is code."""
    marked: list[str] = []
    for i, line in enumerate(lines):
        begins = line.startswith("    ") and i > 0 and not lines[i - 1]
        if begins and not any(_SECTION.match(before) for before in marked if not before.startswith(" ")):
            marked += ["::", ""]
        marked.append(line)
    if what in ("attribute", "property") and marked:  # napoleon takes what is before a colon for a type
        marked[0] = marked[0].replace(":", _COLON)
    lines[:] = marked


def give_colons_back(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Undo what `mark_code` did for napoleon."""
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app: Sphinx) -> None:
    """Have docstrings marked before napoleon reads them."""
    app.connect("autodoc-process-docstring", mark_code, priority=100)
    app.connect("autodoc-process-docstring", give_colons_back, priority=900)
