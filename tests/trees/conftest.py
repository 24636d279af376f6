"""Fixtures of the tree suite: `shape`, `trees` and `tree`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.conftest import BaseFactory
from tests.trees._machine import Shape as RacingShape
from tests.trees._shapes import CONTRACT, SCHEMA, Shape, Tree


@pytest.fixture(params=CONTRACT)
def shape(request: pytest.FixtureRequest) -> Shape:
    """Return each shape in turn; a mark of ``_shapes`` such as ``positioned`` narrows it."""
    found: Shape = request.param
    return found


@pytest.fixture(scope="session")
def _mapped() -> Iterator[dict[object, Tree]]:
    """Return the tree classes by shape and options: to map one takes longer than most tests, which leave it alone."""
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
    """Return a tree class of the shape, with its table on `engine`."""
    return trees()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out on servers what was tested on SQLite and does not depend on the database."""
    dropped = [item for item in items if _adds_nothing_on_a_server(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        gone = set(dropped)
        items[:] = [item for item in items if item not in gone]


def _adds_nothing_on_a_server(item: pytest.Item) -> bool:
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    shape, database = params.get("shape"), params.get("database", "sqlite")
    if database == "sqlite":
        return False
    module = item.path.name
    if isinstance(shape, Shape):
        # What a base maps is the same everywhere.
        if shape.base == "dataclass":
            return True
        # How an index counts siblings that sort themselves is the same everywhere too; its own tests look at it once on
        # each.
        if shape.index.by_order and shape.collection == "sorted" and module != "test_paths.py":
            return True
        # What is loaded is a matter of memory: the statements that a move comes to are the same.
        if module == "test_moves.py" and {"expired", "half"} & {
            each for each in params.values() if isinstance(each, str)
        }:
            return True
        # An index sees a move when the plan of the flush has one form for all its spellings. Servers meet it in random
        # moves, the state machine and the threads.
        spelt_out = module in ("test_moves.py", "test_refusals.py", "test_render.py")
        return shape.index.mixin is not None and spelt_out and "random" not in item.name
    if isinstance(shape, RacingShape) and len(shape.mixins) > 1:
        # Likewise for races: one spelling of a move, and one kind of children.
        return params.get("spelling", "parent") != "parent" or (shape.keyed and module == "test_concurrency.py")
    return False
