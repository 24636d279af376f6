"""Joined, single and concrete inheritance: every table of an object's has its history, and one version number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, delete, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, with_polymorphic

from sqla_patterns.exceptions import PatternError
from sqla_patterns.versioning import Versioned, VersionOptions, as_of, restore, version_at, versions
from tests._support import count_statements
from tests.versioning._world import count, history, history_class, history_table, tick


def joined(base: Any, **options: Any) -> SimpleNamespace:
    """Animal <- Dog <- Puppy in tables of their own, and Cat, which has none."""

    class Animal(Versioned, base):
        __tablename__ = "animal"
        if options:
            __versioned__ = VersionOptions(**options)
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        kind: Mapped[str] = mapped_column(String(10), **_hidden(base))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Cat(Animal):
        lives: Mapped[int | None] = mapped_column(default=None)
        __mapper_args__ = {"polymorphic_identity": "cat"}

    class Dog(Animal):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        trick: Mapped[str] = mapped_column(String(20))
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Puppy(Dog):
        __tablename__ = "puppy"
        id: Mapped[int] = mapped_column(ForeignKey("dog.id"), primary_key=True)
        weeks: Mapped[int] = mapped_column()
        __mapper_args__ = {"polymorphic_identity": "puppy"}

    return SimpleNamespace(Animal=Animal, Cat=Cat, Dog=Dog, Puppy=Puppy, metadata=base.metadata)


def _hidden(base: Any) -> dict[str, Any]:
    from tests.versioning._world import is_dataclass_base

    return {"init": False} if is_dataclass_base(base) else {}


@pytest.fixture
def zoo(bases: Any, engine: Engine, session: Session) -> SimpleNamespace:
    world = joined(bases())
    world.metadata.create_all(engine)
    session.add_all(
        [
            world.Animal(id=1, name="ant"),
            world.Cat(id=2, name="tom", lives=9),
            world.Dog(id=3, name="rex", trick="sit"),
            world.Puppy(id=4, name="bit", trick="none", weeks=6),
        ]
    )
    session.commit()
    return world


# -- joined ------------------------------------------------------------------------------------------


def test_a_change_in_any_table_copies_all_of_them(zoo: Any, session: Session) -> None:
    puppy = session.get_one(zoo.Puppy, 4)
    puppy.weeks = 7
    session.commit()
    puppy.name = "bitty"
    session.commit()
    puppy.trick = "sit"
    session.commit()
    assert puppy.version == 4
    assert history(session, zoo.Puppy, "version", "name", "trick", "weeks") == [
        (1, "bit", "none", 6), (2, "bit", "none", 7), (3, "bitty", "none", 7),
    ]  # fmt: skip
    for cls in (zoo.Animal, zoo.Dog, zoo.Puppy):
        assert count(session, history_table(cls)) == 3


def test_the_version_is_on_the_root_table_alone(zoo: Any) -> None:
    assert "version" in zoo.Animal.__table__.c
    assert "version" not in zoo.Dog.__table__.c
    assert {"id", "version"} == {column.name for column in history_table(zoo.Dog).primary_key}


def test_the_keys_between_history_tables_are_kept(zoo: Any) -> None:
    (target,) = {key.column.table.name for key in history_table(zoo.Dog).foreign_keys}
    assert target == "animal_history"
    (target,) = {key.column.table.name for key in history_table(zoo.Puppy).foreign_keys}
    assert target == "dog_history"


def test_the_history_of_the_base_is_polymorphic(zoo: Any, session: Session) -> None:
    for animal in session.scalars(select(zoo.Animal)):
        animal.name += "!"
    session.commit()
    found = session.scalars(select(history_class(zoo.Animal)).order_by(history_class(zoo.Animal).id)).all()
    assert [type(row) for row in found] == [history_class(cls) for cls in (zoo.Animal, zoo.Cat, zoo.Dog, zoo.Puppy)]
    assert [row.name for row in found] == ["ant", "tom", "rex", "bit"]
    assert (found[1].lives, found[2].trick, found[3].weeks) == (9, "sit", 6)


def test_a_delete_copies_all_tables(zoo: Any, session: Session) -> None:
    for key in (2, 3, 4):
        session.delete(session.get_one(zoo.Animal, key))
    session.commit()
    assert history(session, zoo.Puppy, "id", "name", "weeks") == [(4, "bit", 6)]
    assert history(session, zoo.Dog, "id", "trick") == [(3, "sit"), (4, "none")]
    assert history(session, zoo.Cat, "id", "lives") == [(2, 9)]
    assert count(session, zoo.Animal) == 1


def test_changes_of_a_hierarchy_take_a_few_statements(zoo: Any, session: Session, engine: Engine) -> None:
    session.add_all([zoo.Puppy(id=key, name="p", trick="t", weeks=1) for key in range(100, 200)])
    session.commit()
    puppies = session.scalars(select(zoo.Puppy).where(zoo.Puppy.id >= 100)).all()
    for puppy in puppies:
        puppy.name, puppy.weeks = "q", 2
    with count_statements(engine) as log:
        session.flush()
    # Three tables to copy, two to update.
    assert len(log) <= 6, log.text
    assert count(session, history_table(zoo.Puppy)) == 100


@pytest.mark.parametrize("cls", ["Animal", "Dog", "Cat", "Puppy"])
def test_a_bulk_update_captures_all_tables_or_is_refused_before_it_writes(zoo: Any, session: Session, cls: str) -> None:
    entity = getattr(zoo, cls)
    try:
        # A column of the class's own table: an UPDATE has one.
        values = {"Dog": {"trick": "bulk"}, "Puppy": {"weeks": 99}}.get(cls, {"name": "bulk"})
        session.execute(update(entity).values(**values))
    except PatternError:
        assert history(session, zoo.Animal) == []
        assert session.scalars(select(zoo.Animal.name).order_by(zoo.Animal.id)).all() == ["ant", "tom", "rex", "bit"]
        return
    changed = {"Animal": [1, 2, 3, 4], "Cat": [2], "Dog": [3, 4], "Puppy": [4]}[cls]
    assert history(session, zoo.Animal, "id") == changed
    if 4 in changed:
        assert history(session, zoo.Puppy, "id", "name", "trick", "weeks") == [(4, "bit", "none", 6)]
    if 3 in changed:
        assert (3, "sit") in history(session, zoo.Dog, "id", "trick")
    session.expire_all()
    assert {session.get_one(zoo.Animal, key).version for key in changed} == {2}


@pytest.mark.parametrize("cls", ["Animal", "Cat"])
def test_a_bulk_delete_captures_all_tables_or_is_refused_before_it_writes(zoo: Any, session: Session, cls: str) -> None:
    entity = getattr(zoo, cls)
    try:
        session.execute(delete(entity).where(entity.id == 2))
    except PatternError:
        assert history(session, zoo.Animal) == []
        assert count(session, zoo.Animal) == 4
        return
    assert history(session, zoo.Cat, "id", "name", "lives") == [(2, "tom", 9)]


def test_a_bulk_update_by_key_captures_all_tables_or_is_refused(zoo: Any, session: Session) -> None:
    try:
        session.execute(update(zoo.Puppy), [{"id": 4, "name": "bulk", "weeks": 9}])
    except PatternError:
        assert history(session, zoo.Animal) == []
        return
    assert history(session, zoo.Puppy, "id", "name", "weeks") == [(4, "bit", 6)]
    session.expire_all()
    assert session.get_one(zoo.Puppy, 4).version == 2


def test_the_past_of_a_hierarchy(plain_bases: Any, engine: Engine, session: Session) -> None:
    world = joined(plain_bases(), period=True)
    world.metadata.create_all(engine)
    session.add_all([world.Cat(id=2, name="tom", lives=9), world.Puppy(id=4, name="bit", trick="none", weeks=6)])
    session.commit()
    first = tick()
    for animal in session.scalars(select(world.Animal)):
        animal.name += "!"
    session.commit()
    second = tick()
    session.delete(session.get_one(world.Animal, 4))
    session.commit()

    old = version_at(session, world.Puppy, 4, first)
    assert isinstance(old, world.Puppy)
    assert (old.name, old.trick, old.weeks) == ("bit", "none", 6)
    assert version_at(session, world.Puppy, 4, tick()) is None
    found = as_of(session, select(world.Animal).order_by(world.Animal.id), first)
    assert [(type(each), each.name) for each in found] == [(world.Cat, "tom"), (world.Puppy, "bit")]
    assert (found[0].lives, found[1].weeks) == (9, 6)
    found = as_of(session, select(world.Dog).where(world.Dog.trick == "none"), second)
    assert [each.name for each in found] == ["bit!"]
    by_base = version_at(session, world.Animal, 4, first)
    assert isinstance(by_base, world.Puppy)
    assert by_base.weeks == 6
    again = restore(session, world.Puppy, 4)
    session.commit()
    assert (again.name, again.trick, again.weeks, again.version) == ("bit!", "none", 6, 3)
    assert [version.number for version in versions(session, again)] == [1, 2, 3]


def test_with_polymorphic_as_of(plain_bases: Any, engine: Engine, session: Session) -> None:
    """Supported, or refused with the words of a pattern error; never a wrong answer."""
    world = joined(plain_bases(), period=True)
    world.metadata.create_all(engine)
    session.add(world.Puppy(id=4, name="bit", trick="none", weeks=6))
    session.commit()
    moment = tick()
    session.get_one(world.Animal, 4).name = "later"
    session.commit()
    entity = with_polymorphic(world.Animal, "*")
    try:
        found = as_of(session, select(entity).where(entity.Puppy.weeks == 6), moment)
    except PatternError:
        return
    assert [each.name for each in found] == ["bit"]


# -- concrete ----------------------------------------------------------------------------------------


def test_concrete_classes_have_histories_of_their_own(plain_bases: Any, engine: Engine, session: Session) -> None:
    """Upstream warns, and fails for want of a ``version``."""
    Base = plain_bases()

    class Vehicle(Versioned, Base):
        __tablename__ = "vehicle"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))

    class Ship(Vehicle):
        __tablename__ = "ship"
        __mapper_args__ = {"concrete": True}
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        tons: Mapped[int] = mapped_column(default=1)

    Base.metadata.create_all(engine)
    vehicle, ship = Vehicle(id=1, name="cart"), Ship(id=1, name="boat")
    session.add_all([vehicle, ship])
    session.commit()
    vehicle.name, ship.name = "carriage", "yacht"
    session.commit()
    ship.tons = 5
    session.commit()
    session.delete(vehicle)
    session.commit()
    assert history(session, Vehicle, "id", "version", "name") == [(1, 1, "cart"), (1, 2, "carriage")]
    assert history(session, Ship, "id", "version", "name", "tons") == [(1, 1, "boat", 1), (1, 2, "yacht", 1)]
    assert ship.version == 3
    session.execute(update(Ship).values(name="raft"))
    assert history(session, Ship, "name") == ["boat", "yacht", "yacht"]


# -- single ------------------------------------------------------------------------------------------


def test_single_inheritance_with_unique_columns_of_a_subclass(bases: Any, engine: Engine, session: Session) -> None:
    Base = bases()

    class Person(Versioned, Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        kind: Mapped[str] = mapped_column(String(10), **_hidden(Base))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    class Clerk(Person):
        badge: Mapped[str | None] = mapped_column(String(10), unique=True, default=None)
        __mapper_args__ = {"polymorphic_identity": "clerk"}

    class Boss(Clerk):
        office: Mapped[str | None] = mapped_column("room", String(10), default=None)
        __mapper_args__ = {"polymorphic_identity": "boss"}

    Base.metadata.create_all(engine)
    assert {"badge", "room"} <= set(history_table(Person).c.keys())
    session.add_all([Person(id=1, name="p"), Clerk(id=2, name="c", badge="1"), Boss(id=3, name="b", office="9")])
    session.commit()
    session.get_one(Boss, 3).office = "10"
    session.get_one(Clerk, 2).name = "d"
    session.commit()
    session.get_one(Clerk, 2).name = "e"
    session.get_one(Person, 1).name = "q"
    session.commit()
    assert history(session, Boss, "id", "name", "office") == [(3, "b", "9")]
    assert history(session, Person, "id", "version", "name") == [(1, 1, "p"), (2, 1, "c"), (2, 2, "d"), (3, 1, "b")]
    assert history(session, Clerk, "id", "badge") == [(2, "1"), (2, "1"), (3, None)]
    session.execute(update(Boss).values(name="bulk"))
    assert history(session, Boss, "id", "version", "name") == [(3, 1, "b"), (3, 2, "b")]
    session.execute(insert(Clerk), [{"id": 7, "name": "n"}])
    assert session.get_one(Clerk, 7).version == 1


def test_a_versioned_subclass_of_a_class_without_versions(plain_bases: Any, engine: Engine, session: Session) -> None:
    """The mixin below the root of a joined hierarchy: kept, or refused when mapped; never half of an object."""
    Base = plain_bases()

    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    try:

        class Dog(Versioned, Animal):
            __tablename__ = "dog"
            id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
            trick: Mapped[str] = mapped_column(String(20))
            __mapper_args__ = {"polymorphic_identity": "dog"}

    except PatternError:
        return
    Base.metadata.create_all(engine)
    dog = Dog(id=1, name="rex", trick="sit")
    session.add(dog)
    session.commit()
    dog.name = "max"
    session.commit()
    assert history(session, Dog, "name", "trick") == [("rex", "sit")]
