"""Fixtures of the graph suite: graph classes, with their tables on the database under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.conftest import BaseFactory
from tests.graphs._models import GraphModels


@pytest.fixture
def make_graph(plain_bases: BaseFactory, engine: Engine) -> Callable[..., GraphModels]:
    """Return a function that makes graph classes on a plain base, and their tables on `engine`."""

    def make(**options: Any) -> GraphModels:
        if options.get("key") == "schema":
            # On MariaDB a schema is a database, on SQLite an attached database.
            if engine.dialect.name == "mysql":
                options["schema"] = engine.url.database
            else:
                options["schema"] = "other"
                with engine.begin() as connection:
                    sqlite = engine.dialect.name == "sqlite"
                    connection.execute(text("ATTACH ':memory:' AS other" if sqlite else "CREATE SCHEMA other"))
        graph = GraphModels(plain_bases(), **options)
        graph.create(engine)
        return graph

    return make


@pytest.fixture
def graph(bases: BaseFactory, engine: Engine) -> GraphModels:
    """Return the classes of a graph that may have cycles, on each kind of base."""
    graph = GraphModels(bases())
    graph.create(engine)
    return graph


@pytest.fixture
def dag(bases: BaseFactory, engine: Engine) -> GraphModels:
    """Return the classes of a graph that is kept acyclic, on each kind of base."""
    graph = GraphModels(bases(), acyclic=True)
    graph.create(engine)
    return graph
