"""The fixture `zoo`: animals with facts, over both kinds of base and both variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from tests.conftest import BaseFactory
from tests.vertical import _models as models


@pytest.fixture(scope="session")
def _mapped() -> Iterator[dict[tuple[str, bool], models.Zoo]]:
    """Animals with facts by base and variant. To map them takes longer than most tests, which do not change them."""
    mapped: dict[tuple[str, bool], models.Zoo] = {}
    yield mapped
    for zoo in mapped.values():
        zoo.Base.registry.dispose(cascade=True)


@pytest.fixture(params=["typed", "plain"])
def zoo(request: pytest.FixtureRequest, bases: BaseFactory, _mapped: dict[tuple[str, bool], models.Zoo]) -> models.Zoo:
    """Animals with facts, not in a database yet."""
    key = (bases.kind, request.param == "plain")
    if key not in _mapped:
        _mapped[key] = models.zoo(BaseFactory(bases.kind), plain=key[1])
    return _mapped[key]


@pytest.fixture
def animal(zoo: models.Zoo, engine: Engine, session: Session) -> Any:
    """Yield an animal in the database with the facts of `zoo`, beside another whose facts nothing may touch."""
    zoo.Base.metadata.create_all(engine)
    animal, other = zoo.Animal(), zoo.Animal()
    animal.attrs.update(zoo.facts())
    other.attrs["a"] = zoo.values[0]
    session.add_all([animal, other])
    session.commit()
    number = other.id
    yield animal
    session.rollback()
    with Session(session.connection()) as fresh:
        assert dict(fresh.get_one(zoo.Animal, number).attrs) == {"a": zoo.values[0]}


@pytest.fixture
def stored(zoo: models.Zoo, engine: Engine, session: Session) -> Callable[[Any], dict[str, Any]]:
    """Read what is in the database, in a session of its own."""

    def read(animal: Any) -> dict[str, Any]:
        session.flush()
        with Session(session.connection()) as other:
            return dict(other.get_one(zoo.Animal, animal.id).attrs)

    return read
