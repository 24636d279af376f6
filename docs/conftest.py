"""Run every Python code block of the documentation; only an explicit ``<!--- skip: next -->`` leaves one out."""

from __future__ import annotations

from doctest import ELLIPSIS, NORMALIZE_WHITESPACE

from sybil import Sybil
from sybil.parsers import myst

_FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE

pytest_collect_file = Sybil(
    parsers=[
        myst.PythonCodeBlockParser(doctest_optionflags=_FLAGS),
        myst.DocTestDirectiveParser(_FLAGS),
        myst.SkipParser(),
    ],
    patterns=["**/*.md", "*.md"],
    excludes=["_build/**"],
).pytest()
