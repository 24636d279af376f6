from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.conftest import BaseFactory

from ._models import RegistryFactory


@pytest.fixture(params=["plain", "dataclass", "registry"])
def bases(request: pytest.FixtureRequest) -> Generator[Any, None, None]:
    """Return a factory of bases: declarative, of dataclasses, or registries for classes that have no base in common."""
    factory = RegistryFactory() if request.param == "registry" else BaseFactory(request.param)
    yield factory
    factory.dispose()


@pytest.fixture(params=["plain", "dataclass"])
def declarative_bases(request: pytest.FixtureRequest) -> Generator[BaseFactory, None, None]:
    """Return the same factory, without registries."""
    factory = BaseFactory(request.param)
    yield factory
    factory.dispose()


@pytest.fixture(params=["single", "joined", "concrete"])
def strategy(request: pytest.FixtureRequest) -> str:
    """Return the name of a strategy in `_models.STRATEGIES`."""
    return str(request.param)
