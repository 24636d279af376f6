"""Run the examples of the README, and those in the docstrings of ``src``; docs/conftest.py does the same for docs."""

from __future__ import annotations

import re
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from typing import Any

import pytest
from sybil import Sybil
from sybil.parsers import markdown, rest

from tests._support import close_example

_FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE

_readme = Sybil(
    teardown=close_example,
    parsers=[markdown.PythonCodeBlockParser(doctest_optionflags=_FLAGS), markdown.SkipParser()],
    filenames=["README.md"],
    excludes=["benchmarks/*"],
)
_docstrings = Sybil(
    teardown=close_example,
    parsers=[rest.DocTestParser(_FLAGS), rest.PythonCodeBlockParser(), rest.SkipParser()],
    path="src",
    # At any depth: to pathlib, before Python 3.13, a pattern with ** is one of exactly so many folders.
    patterns=["*.py"],
)

pytest_collect_file = (_readme + _docstrings).pytest()


# Examples of one document go on from where the one before ended, and these modules build something once.
_TOGETHER = re.compile(r"(?P<file>.*)::line:\d+,column:\d+|(?P<module>tests/test_(typing|packaging)\.py)::")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep what belongs together in one process; everything else goes to the process that is free.

    ``--dist loadgroup`` would do, but pytest-xdist 3.8 loses the groups under pytest 9.2, without a word.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            match = _TOGETHER.match(nodeid)
            return nodeid if match is None else match["file"] or match["module"]

    return Scheduling(config, log)
