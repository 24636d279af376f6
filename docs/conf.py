"""Sphinx configuration; ``make docs`` builds with warnings as errors."""

from __future__ import annotations

import os
import warnings
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
# "Attributes:" of a class describe what autodoc lists anyway.
napoleon_use_ivar = True

# autodoc looks at declared attributes of mixins, which no mapped class has yet.
warnings.filterwarnings("ignore", message="Unmanaged access of declarative attribute")

# Private names that signatures mention, such as type variables and shared bases, have no page.
_PRIVATE = (r"py:.*", r"sqla_patterns\.(.*\.)?_.*")

if os.environ.get("SQLA_PATTERNS_DOCS_ONLINE") == "1":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "sqlalchemy": ("https://docs.sqlalchemy.org/en/21", None),
    }
    nitpick_ignore_regex = [_PRIVATE, (r"py:.*", r"sqlalchemy\..*"), (r"py:.*", r".*TypeVar.*")]
else:
    # The inventories of other projects are not at hand: check only the names that are ours.
    nitpick_ignore_regex = [_PRIVATE, (r"py:.*", r"(?!sqla_patterns\.).*")]
