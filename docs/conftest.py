"""Run every Python code block of the documentation; only an explicit ``<!--- skip: next -->`` leaves one out."""

from __future__ import annotations

from doctest import ELLIPSIS, NORMALIZE_WHITESPACE

from sybil import Sybil
from sybil.parsers import myst

from tests._support import close_example

_FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE

pytest_collect_file = Sybil(
    teardown=close_example,
    parsers=[
        myst.PythonCodeBlockParser(doctest_optionflags=_FLAGS),
        myst.DocTestDirectiveParser(_FLAGS),
        myst.SkipParser(),
    ],
    patterns=["**/*.md", "*.md"],
    excludes=["_build/**"],
).pytest()
