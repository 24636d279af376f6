"""Batches of lazy loads where subclasses have relationships of the same name."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectin_polymorphic, sessionmaker

from sqla_patterns.caching import FromCache, MemoryStamps, ORMCache, RelationshipCache
from tests.caching._world import memory_region


class Base(DeclarativeBase):
    pass


class Office(Base):
    __tablename__ = "sibling_office"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    manager_id: Mapped[int | None] = mapped_column(ForeignKey("sibling_manager.id", use_alter=True))


class Lab(Base):
    __tablename__ = "sibling_lab"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    engineer_id: Mapped[int | None] = mapped_column(ForeignKey("sibling_engineer.id", use_alter=True))


class Staff(Base):
    __tablename__ = "sibling_staff"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    home_id: Mapped[int | None] = mapped_column(ForeignKey("sibling_office.id"))
    home: Mapped[Office | None] = relationship(foreign_keys=home_id)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "staff"}


class Manager(Staff):
    __tablename__ = "sibling_manager"
    id: Mapped[int] = mapped_column(ForeignKey("sibling_staff.id"), primary_key=True)
    place_id: Mapped[int | None] = mapped_column(ForeignKey("sibling_office.id"))
    place: Mapped[Office | None] = relationship(foreign_keys=place_id)
    places: Mapped[list[Office]] = relationship(foreign_keys=Office.manager_id)
    __mapper_args__ = {"polymorphic_identity": "manager"}


class Engineer(Staff):
    __tablename__ = "sibling_engineer"
    id: Mapped[int] = mapped_column(ForeignKey("sibling_staff.id"), primary_key=True)
    place_id: Mapped[int | None] = mapped_column(ForeignKey("sibling_lab.id"))
    place: Mapped[Lab | None] = relationship(foreign_keys=place_id)
    places: Mapped[list[Lab]] = relationship(foreign_keys=Lab.engineer_id)
    __mapper_args__ = {"polymorphic_identity": "engineer"}


@pytest.fixture
def cache(engine: Engine) -> Generator[ORMCache, None, None]:
    Base.metadata.create_all(engine)
    with sessionmaker(engine)() as session:
        for number in (1, 2):
            session.add_all([Office(id=number, name=f"office {number}"), Lab(id=number, name=f"lab {number}")])
        session.flush()
        for number in (1, 2):
            manager = Manager(id=number, place_id=number, home_id=number)
            engineer = Engineer(id=number + 2, place_id=number, home_id=number)
            session.add_all([manager, engineer])
            session.flush()
            session.get_one(Office, number).manager_id = manager.id
            session.get_one(Lab, number).engineer_id = engineer.id
        session.commit()
    cache = ORMCache({"default": memory_region()}, stamps=MemoryStamps())
    yield cache
    cache.detach()


def _read(engine: Engine, cache: ORMCache, attribute: str, *options: Any) -> list[Any]:
    factory = sessionmaker(engine)
    cache.listen_on_session(factory)
    statement = select(Staff).order_by(Staff.id).options(selectin_polymorphic(Staff, [Manager, Engineer]), *options)
    found: list[Any] = []
    for _ in range(3):
        with factory() as session:
            values = [getattr(staff, attribute) for staff in session.scalars(statement)]
            found.append([[e.name for e in v] if isinstance(v, list) else v.name for v in values])
    return found


@pytest.mark.parametrize(
    "options",
    [
        [RelationshipCache(Manager.place).and_(RelationshipCache(Engineer.place))],
        [RelationshipCache(Manager.place)],
        [FromCache(), RelationshipCache(Engineer.place), RelationshipCache(Manager.place)],
    ],
    ids=["both", "one", "with the statement"],
)
def test_parents_of_one_name_are_those_of_each_class(engine: Engine, cache: ORMCache, options: list[Any]) -> None:
    assert _read(engine, cache, "place", *options) == [["office 1", "office 2", "lab 1", "lab 2"]] * 3


def test_collections_of_one_name_are_those_of_each_class(engine: Engine, cache: ORMCache) -> None:
    option = RelationshipCache(Manager.places).and_(RelationshipCache(Engineer.places))
    assert _read(engine, cache, "places", option) == [[["office 1"], ["office 2"], ["lab 1"], ["lab 2"]]] * 3


def test_an_inherited_relationship_is_looked_up_for_all_subclasses(engine: Engine, cache: ORMCache) -> None:
    found = _read(engine, cache, "home", RelationshipCache(Staff.home))
    assert found == [["office 1", "office 2", "office 1", "office 2"]] * 3


def test_each_of_two_relationships_of_one_name_has_a_batch(engine: Engine, cache: ORMCache) -> None:
    option = RelationshipCache(Manager.places).and_(RelationshipCache(Engineer.places))
    _read(engine, cache, "places", option)
    # Each collection is a miss once, and a hit for each later session.
    assert (cache.stats.misses, cache.stats.hits) == (4, 8)
