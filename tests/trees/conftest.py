"""Fixtures of the tree suite: `shape`, `trees` and `tree`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.conftest import BaseFactory
from tests.trees._shapes import CONTRACT, SCHEMA, Shape, Tree


@pytest.fixture(params=CONTRACT)
def shape(request: pytest.FixtureRequest) -> Shape:
    """Each shape in turn; a mark of ``_shapes`` such as ``positioned`` narrows it."""
    found: Shape = request.param
    return found


@pytest.fixture(scope="session")
def _mapped() -> Iterator[dict[object, Tree]]:
    """Tree classes by shape and options. To map one takes longer than most tests, which leave the class as it was."""
    mapped: dict[object, Tree] = {}
    yield mapped
    for tree in mapped.values():
        tree.cls.registry.dispose(cascade=True)


@pytest.fixture
def trees(shape: Shape, engine: Engine, _mapped: dict[object, Tree]) -> Callable[..., Tree]:
    """Make a tree class of the shape with options of the test's, and its table: ``trees(on_delete="adopt")``.

    A test that adds anything to the class asks for one of its own: ``trees(fresh=True)``.
    """

    def make(*, fresh: bool = False, **options: Any) -> Tree:
        schema = None
        if shape.key == "schema":
            # On MariaDB a schema is a database; the test's own one serves.
            schema = engine.url.database if engine.dialect.name == "mysql" else SCHEMA
        key = object() if fresh else (shape, schema, tuple(sorted(options.items())))
        if key not in _mapped:
            factory = BaseFactory("dataclass" if shape.base == "dataclass" else "plain")
            _mapped[key] = Tree(shape, factory(), schema=schema, **options)
        tree = _mapped[key]
        tree.create(engine)
        return tree

    return make


@pytest.fixture
def tree(trees: Callable[..., Tree]) -> Tree:
    """A tree class of the shape, and its table on `engine`."""
    return trees()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out on servers what is the same for all databases, and SQLite has met: what a base maps, and how an index counts."""
    dropped = [item for item in items if _is_left_to_sqlite(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        gone = set(dropped)
        items[:] = [item for item in items if item not in gone]


def _is_left_to_sqlite(item: pytest.Item) -> bool:
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    shape, database = params.get("shape"), params.get("database", "sqlite")
    if not isinstance(shape, Shape) or database == "sqlite":
        return False
    indexed_by_order = shape.index.by_order and shape.collection == "sorted" and "test_paths" not in item.nodeid
    return shape.base == "dataclass" or indexed_by_order
