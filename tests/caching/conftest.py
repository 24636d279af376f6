"""Fixtures of the caching suite: `world`, and `worlds` to make others."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.caching._world import World, fill


@pytest.fixture
def worlds(engine: Engine) -> Generator[Callable[..., World], None, None]:
    """Make worlds on the test's database: ``worlds(vary=..., regions={...})``."""
    made: list[World] = []

    def make(on: Engine | None = None, **options: Any) -> World:
        if not made:
            fill(engine)
        world = World(on or engine, **options)
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    """Return a world with one region in memory."""
    return worlds()
