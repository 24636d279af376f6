"""Fixtures of the graph suite: `make_world`, and `world` with integer keys on both kinds of base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.conftest import BaseFactory
from tests.graphs._world import World


@pytest.fixture
def make_world(plain_bases: BaseFactory, engine: Engine) -> Callable[..., World]:
    """Make graph classes on a plain base, and their tables on `engine`."""

    def make(**options: Any) -> World:
        if options.get("key") == "schema":
            # On MariaDB a schema is a database, on SQLite an attached one.
            if engine.dialect.name == "mysql":
                options["schema"] = engine.url.database
            else:
                options["schema"] = "other"
                with engine.begin() as connection:
                    sqlite = engine.dialect.name == "sqlite"
                    connection.execute(text("ATTACH ':memory:' AS other" if sqlite else "CREATE SCHEMA other"))
        world = World(plain_bases(), **options)
        world.create(engine)
        return world

    return make


@pytest.fixture
def world(bases: BaseFactory, engine: Engine) -> World:
    """A graph that may have cycles, on each kind of base."""
    world = World(bases())
    world.create(engine)
    return world


@pytest.fixture
def dag(bases: BaseFactory, engine: Engine) -> World:
    """A graph that is kept acyclic, on each kind of base."""
    world = World(bases(), acyclic=True)
    world.create(engine)
    return world
