"""Sphinx configuration; ``make docs`` builds with warnings as errors."""

from __future__ import annotations

import os
from importlib.metadata import version as _version

project = "sqla_patterns"
author = "sqla_patterns contributors"
project_copyright = "2026, sqla_patterns contributors"
release = _version("sqla-patterns")
version = ".".join(release.split(".")[:2])

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "sqla_patterns"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# What is defined in a private module and not documented is internal: type variables, types of constructors nobody calls.
_internal = (r"py:.*", r"sqla_patterns\.(\w+\.)*_\w+\..*")

if os.environ.get("SQLA_PATTERNS_DOCS_ONLINE") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "sqlalchemy": ("https://docs.sqlalchemy.org/en/21", None),
    }
    nitpick_ignore_regex = [(r"py:.*", r"sqlalchemy\..*"), (r"py:.*", r".*TypeVar.*"), _internal]
else:
    # The inventories of other projects are not at hand: check only the names that are ours.
    nitpick_ignore_regex = [(r"py:.*", r"(?!sqla_patterns\.).*"), _internal]
