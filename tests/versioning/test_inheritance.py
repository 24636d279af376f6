"""Joined, single and concrete inheritance: each table of an object has a history, with one version number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, String, delete, insert, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, with_polymorphic

from sqla_patterns.exceptions import PatternError
from sqla_patterns.versioning import RevisionLog, Versioned, VersionOptions, as_of, restore, version_at, versions
from tests._support import count_statements
from tests.versioning._models import count, history, history_class, history_table, only_statements, tick


def joined(base: Any, **options: Any) -> SimpleNamespace:
    """Map Animal <- Dog <- Puppy with a table each, and Cat, which has none."""

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
    from tests.versioning._models import is_dataclass_base

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
def test_a_bulk_update_captures_all_tables(zoo: Any, session: Session, cls: str) -> None:
    entity = getattr(zoo, cls)
    # A column of the class's local table, since an UPDATE is of one table.
    values = {"Dog": {"trick": "bulk"}, "Puppy": {"weeks": 99}}.get(cls, {"name": "bulk"})
    session.execute(update(entity).values(**values))
    changed = {"Animal": [1, 2, 3, 4], "Cat": [2], "Dog": [3, 4], "Puppy": [4]}[cls]
    assert history(session, zoo.Animal, "id") == changed
    if 4 in changed:
        assert history(session, zoo.Puppy, "id", "name", "trick", "weeks") == [(4, "bit", "none", 6)]
    if 3 in changed:
        assert (3, "sit") in history(session, zoo.Dog, "id", "trick")
    session.expire_all()
    assert {session.get_one(zoo.Animal, key).version for key in changed} == {2}


@pytest.mark.parametrize("cls", ["Animal", "Cat"])
def test_a_bulk_delete_captures_all_tables(zoo: Any, session: Session, cls: str) -> None:
    entity = getattr(zoo, cls)
    session.execute(delete(entity).where(entity.id == 2))
    assert history(session, zoo.Cat, "id", "name", "lives") == [(2, "tom", 9)]


def test_a_bulk_update_by_key_captures_all_tables(zoo: Any, session: Session) -> None:
    session.execute(update(zoo.Puppy), [{"id": 4, "name": "bulk", "weeks": 9}])
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


def test_as_of_refuses_with_polymorphic(plain_bases: Any, session: Session) -> None:
    # It is an alias; a SELECT of the root loads all classes anyway.
    world = joined(plain_bases(), period=True)
    entity = with_polymorphic(world.Animal, "*")
    with pytest.raises(PatternError, match="wants a SELECT of one versioned class"):
        as_of(session, select(entity).where(entity.Puppy.weeks == 6), tick())


def test_a_bulk_update_names_the_key_of_the_table_that_it_updates(
    plain_bases: Any, engine: Engine, session: Session
) -> None:
    # If the key has another name in each table, the root's column would not restrict the joined table.
    base = plain_bases()

    class A(Versioned, base):
        __tablename__ = "a"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "a"}

    class B(A):
        __tablename__ = "b"
        a_id: Mapped[int] = mapped_column(ForeignKey("a.id"), primary_key=True)
        b: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_identity": "b"}

    class C(B):
        __tablename__ = "c"
        b_id: Mapped[int] = mapped_column(ForeignKey("b.a_id"), primary_key=True)
        c: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_identity": "c"}

    base.metadata.create_all(engine)
    session.add_all([B(id=1, b="1"), B(id=2, b="2"), C(id=3, b="1", c="1")])
    session.commit()
    for cls, column, key in ((B, "b", "b.a_id IN"), (C, "c", "c.b_id IN")):
        with only_statements(engine, f"UPDATE {cls.__table__.name.upper()} ") as found:  # type: ignore[attr-defined]
            session.execute(update(cls).where(getattr(cls, column) == "1").values({column: "z"}))
        assert [key in each and "FROM a" not in each for each in found] == [True]
        assert len(found) == 1
    session.commit()
    assert history(session, A, "id", "version") == [(1, 1), (3, 1), (3, 2)]
    assert session.scalars(select(B.b).order_by(B.a_id)).all() == ["z", "2", "z"]


# -- concrete ----------------------------------------------------------------------------------------


def test_concrete_classes_have_histories_of_their_own(plain_bases: Any, engine: Engine, session: Session) -> None:
    # Upstream warns, and fails because there is no ``version``.
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
        office: Mapped[str | None] = mapped_column("office_number", String(10), default=None)
        __mapper_args__ = {"polymorphic_identity": "boss"}

    Base.metadata.create_all(engine)
    assert {"badge", "office_number"} <= set(history_table(Person).c.keys())
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


def test_a_versioned_subclass_of_a_class_without_versions_is_refused(plain_bases: Any) -> None:
    # The mixin below the root of a joined hierarchy would keep only a part of an object.
    Base = plain_bases()

    class Animal(Base):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(String(20))
        kind: Mapped[str] = mapped_column(String(10))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    with pytest.raises(PatternError, match="mix Versioned into Animal"):

        class Dog(Versioned, Animal):
            __tablename__ = "dog"
            id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
            trick: Mapped[str] = mapped_column(String(20))
            __mapper_args__ = {"polymorphic_identity": "dog"}


@pytest.mark.parametrize("options", [{}, {"granularity": "transaction"}, {"revision": "log"}])
@pytest.mark.parametrize("limit", [10_000, 1])
def test_bulk_updates_of_a_joined_table_change_rows_of_this_transaction_too(
    plain_bases: Any,
    engine: Engine,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    limit: int,
) -> None:
    monkeypatch.setattr("sqla_patterns.versioning._bulk.CHUNK_SIZE", limit)
    each_flush = not options
    base = plain_bases()
    if "revision" in options:

        class Log(RevisionLog, base):
            __tablename__ = "log"

        options = {"revision": Log, "granularity": "transaction"}
    world = joined(base, period=True, **options)
    world.metadata.create_all(engine)
    rex, pup = world.Dog(name="rex", trick="sit"), world.Puppy(name="pup", trick="sit", weeks=6)
    session.add_all([rex, pup, world.Dog(name="old", trick="none"), world.Cat(name="tom")])
    session.commit()
    numbers = []
    for trick in ("roll", "beg", "speak"):
        session.execute(update(world.Dog).where(world.Dog.trick != "none").values(trick=trick))
        assert [rex.trick, pup.trick] == [trick, trick]
        numbers.append([rex.version, pup.version])
    assert numbers == ([[2, 2], [3, 3], [4, 4]] if each_flush else [[2, 2], [2, 2], [2, 2]])
    session.commit()
    tricks = [each.object.trick for each in versions(session, rex)]
    assert tricks == (["sit", "roll", "beg", "speak"] if each_flush else ["sit", "speak"])
    assert [each.number for each in versions(session, world.Dog, 3)] == [1]
    new = world.Dog(name="new", trick="sit")
    session.add(new)
    session.flush()
    session.execute(update(world.Dog).where(world.Dog.id == new.id).values(trick="roll"))
    assert (new.trick, new.version) == ("roll", 2 if each_flush else 1)
