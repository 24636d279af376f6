"""SQLAlchemy's own suite for the recipe passes unchanged with the library."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.versioning._upstream import SHIM, fetch, run_upstream

#: 27 cases on a base of each kind.
CASES = 54

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
def cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that is kept between runs, unless pytest was told to keep nothing."""
    cache: pytest.Cache | None = getattr(pytestconfig, "cache", None)
    return tmp_path_factory.getbasetemp() if cache is None else cache.mkdir("sqlalchemy_examples")


def test_the_suite_of_upstream_passes_unchanged_beside_a_shim_of_two_lines(cache: Path, tmp_path: Path) -> None:
    assert len(SHIM.splitlines()) == 2
    passed, output = run_upstream(cache, tmp_path, SHIM)
    assert passed == CASES, output


def test_the_same_run_passes_on_the_recipe_itself(cache: Path, tmp_path: Path) -> None:
    # The test above runs upstream's complete suite.
    passed, output = run_upstream(cache, tmp_path, fetch(cache, "history_meta.py"))
    assert passed == CASES, output
