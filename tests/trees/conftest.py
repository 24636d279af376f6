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


@pytest.fixture
def trees(shape: Shape, engine: Engine) -> Iterator[Callable[..., Tree]]:
    """Make a tree class of the shape with options of the test's, and its table: ``trees(on_delete="adopt")``."""
    factory = BaseFactory("dataclass" if shape.base == "dataclass" else "plain")

    def make(**options: Any) -> Tree:
        schema = None
        if shape.key == "schema":
            # On MariaDB a schema is a database; the test's own one serves.
            schema = engine.url.database if engine.dialect.name == "mysql" else SCHEMA
        tree = Tree(shape, factory(), schema=schema, **options)
        tree.create(engine)
        return tree

    yield make
    factory.dispose()


@pytest.fixture
def tree(trees: Callable[..., Tree]) -> Tree:
    """A tree class of the shape, and its table on `engine`."""
    return trees()
