"""Select the tests of the package."""

from __future__ import annotations

from typing import Any

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out dataclass bases on servers.

    What a base maps is the same for all databases, and it is tested on SQLite.
    """
    here = [item for item in items if "tests/versioning/" in item.nodeid]
    dropped = [item for item in here if _is_dataclass_on_a_server(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        gone = set(dropped)
        items[:] = [item for item in items if item not in gone]


def _is_dataclass_on_a_server(item: pytest.Item) -> bool:
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return params.get("bases") == "dataclass" and params.get("database", "sqlite") != "sqlite"
