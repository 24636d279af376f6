from __future__ import annotations

import pytest
from sqlalchemy import Select

HAS_EXT = hasattr(Select, "ext")


@pytest.fixture
def select_ext() -> None:
    """Mark a test of ``Select.ext()``, which SQLAlchemy has from 2.1."""


@pytest.fixture
def no_select_ext() -> None:
    """Mark a test of SQLAlchemy 2.0."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the other series."""
    other = "no_select_ext" if HAS_EXT else "select_ext"
    dropped = [item for item in items if other in getattr(item, "fixturenames", ())]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]
