from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ._models import ONE_CHILD_CLASS, STRATEGIES, Story, tell


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def story(strategy: str, bases: Any, engine: Engine) -> Story:
    """The story of each strategy on each base, its tables made."""
    made = tell(strategy, bases())
    made.metadata.create_all(engine)
    return made


@pytest.fixture(params=ONE_CHILD_CLASS)
def shared(request: pytest.FixtureRequest, plain_bases: Any, engine: Engine) -> Story:
    """The story of the strategies where one child can move between parents of different classes."""
    made = tell(request.param, plain_bases())
    made.metadata.create_all(engine)
    return made


@pytest.fixture
def generic(plain_bases: Any, engine: Engine, session: Session) -> Story:
    """The story of the generic foreign key."""
    made = tell("generic_foreign_key", plain_bases())
    made.metadata.create_all(engine)
    return made
