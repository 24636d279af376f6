from __future__ import annotations

import asyncio
import gc
from collections.abc import Generator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests._support import Database

from ._models import Maker, checked_out, make, others


@pytest.fixture
def pool_size() -> int:
    """Return how many connections the engine has."""
    return 5


@pytest.fixture
def pooled(database: Database, runner: asyncio.Runner, pool_size: int) -> Generator[AsyncEngine, None, None]:
    """Make an engine with a pool of few connections; at the end no task and no connection may be left."""
    engine = database.create_async_engine(pool_size=pool_size, max_overflow=0, pool_timeout=5)
    yield engine
    assert runner.run(others()) == set()
    assert checked_out(engine) == 0
    runner.run(engine.dispose())
    # What was forgotten warns when it is collected.
    gc.collect()


@pytest.fixture
def maker(pooled: AsyncEngine, runner: asyncio.Runner) -> Maker:
    """Make three authors, a1 to a3, with two books each."""
    return runner.run(make(pooled))
