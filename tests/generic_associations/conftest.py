from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ._models import ONE_CHILD_CLASS, STRATEGIES, Models, map_models


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def models(strategy: str, bases: Any, engine: Engine) -> Models:
    """Map the models of each strategy on each base, and create their tables."""
    made = map_models(strategy, bases())
    made.metadata.create_all(engine)
    return made


@pytest.fixture(params=ONE_CHILD_CLASS)
def shared(request: pytest.FixtureRequest, plain_bases: Any, engine: Engine) -> Models:
    """Map the models of the strategies where a child can move between parents of different classes."""
    made = map_models(request.param, plain_bases())
    made.metadata.create_all(engine)
    return made


@pytest.fixture
def generic(plain_bases: Any, engine: Engine, session: Session) -> Models:
    """Map the models of the generic foreign key."""
    made = map_models("generic_foreign_key", plain_bases())
    made.metadata.create_all(engine)
    return made
