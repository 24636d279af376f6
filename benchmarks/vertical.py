"""Read the facts of 1,000 objects as dictionaries: sqla_patterns.vertical, and the same by hand.

20 facts an object, of three types. "By hand" builds the dictionaries from the rows of one SELECT for the same ids,
which is what anybody would write who needs no mapping. The objects are loaded with their facts by ``selectinload()`` in
both cases. The last race shows what the indexes for ``any_value()`` cost when the facts are inserted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from _harness import benchmark, verify
from sqlalchemy import Engine, ForeignKey, String, delete, insert, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    attribute_keyed_dict,
    mapped_column,
    relationship,
    selectinload,
)

from sqla_patterns.vertical import (
    VerticalAttributes,
    VerticalValue,
    VerticalValueOptions,
    load_vertical,
    value_column,
)

OBJECTS, FACTS = 1_000, 20
IDS = range(1, OBJECTS + 1)
Value = int | str | bool | None


class Base(DeclarativeBase):
    pass


class Fact(VerticalValue, Base):
    __tablename__ = "fact"
    animal_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    int_value: Mapped[int | None] = value_column(int)
    str_value: Mapped[str | None] = value_column(str)
    bool_value: Mapped[bool | None] = value_column(bool)


class Indexed(VerticalValue, Base):
    __tablename__ = "indexed"
    owner_id: Mapped[int] = mapped_column(primary_key=True)
    int_value: Mapped[int | None] = value_column(int)
    str_value: Mapped[str | None] = value_column(str)
    bool_value: Mapped[bool | None] = value_column(bool)


class Frugal(VerticalValue, Base):
    __tablename__ = "frugal"
    __vertical_value__ = VerticalValueOptions(any_value_index=False)
    owner_id: Mapped[int] = mapped_column(primary_key=True)
    int_value: Mapped[int | None] = value_column(int)
    str_value: Mapped[str | None] = value_column(str)
    bool_value: Mapped[bool | None] = value_column(bool)


class Animal(Base):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    facts: Mapped[dict[str, Fact]] = relationship(
        collection_class=attribute_keyed_dict("key"), cascade="all, delete-orphan"
    )
    attrs = VerticalAttributes[Value]("facts")


Start = Callable[[Engine], Generator[Callable[[], Any], Any, None]]
Found = dict[int, dict[str, Value]]


def value_of(number: int, fact: int) -> Value:
    return (number * fact, f"text {fact}", fact % 2 == 0)[fact % 3]


def check(found: Found) -> None:
    verify(len(found) == OBJECTS, "objects")
    verify(found[7] == {f"fact {fact}": value_of(7, fact) for fact in range(FACTS)}, "the facts of object 7")


def reading(read: Callable[[Session], Found]) -> Start:
    def start(engine: Engine) -> Generator[Callable[[], Any], Any, None]:
        with Session(engine) as session:
            check((yield lambda: read(session)))

    return start


def rows_by_hand(session: Session) -> Found:
    found: Found = {}
    columns = (Fact.animal_id, Fact.key, Fact.type, Fact.int_value, Fact.str_value, Fact.bool_value)
    statement = select(*columns).where(Fact.animal_id.in_(IDS))
    for owner, key, type_name, number, text, truth in session.execute(statement):
        value = number if type_name == "int" else text if type_name == "str" else truth
        found.setdefault(owner, {})[key] = value
    return found


def rows(session: Session) -> Found:
    return load_vertical(session, Animal.attrs, IDS)


def objects_by_hand(session: Session) -> Found:
    found: Found = {}
    for animal in session.scalars(select(Animal).options(selectinload(Animal.facts))):
        found[animal.id] = {
            key: fact.int_value if fact.type == "int" else fact.str_value if fact.type == "str" else fact.bool_value
            for key, fact in animal.facts.items()
        }
    return found


def objects(session: Session) -> Found:
    animals = session.scalars(select(Animal).options(selectinload(Animal.facts)))
    return {animal.id: dict(animal.attrs) for animal in animals}


def inserting(cls: type[Indexed] | type[Frugal]) -> Start:
    columns = ("int_value", "str_value", "bool_value")
    rows = [
        {
            "owner_id": number,
            "key": f"fact {fact}",
            "type": ("int", "str", "bool")[fact % 3],
            **dict.fromkeys(columns),
            columns[fact % 3]: value_of(number, fact),
        }
        for number in IDS
        for fact in range(FACTS)
    ]

    def start(engine: Engine) -> Generator[Callable[[], Any], Any, None]:
        with Session(engine) as session:
            session.execute(delete(cls))
            session.commit()

            def timed() -> None:
                session.execute(insert(cls.metadata.tables[cls.__tablename__]), rows)
                session.commit()

            yield timed
            verify(session.get(cls, (7, "fact 1")) is not None, "a fact of owner 7")

    return start


def main(argv: list[str] | None = None) -> None:
    with benchmark(__doc__, argv) as bench:
        Base.metadata.create_all(bench.engine)
        with Session(bench.engine) as session:
            names = range(1, OBJECTS + 1)
            session.execute(insert(Animal), [{"id": number, "name": f"animal {number}"} for number in names])
            for number in names:
                animal = session.get_one(Animal, number)
                animal.attrs = {f"fact {fact}": value_of(number, fact) for fact in range(FACTS)}
            session.commit()
        race = bench.race(
            "dictionaries without objects", {"by hand": reading(rows_by_hand), "load_vertical": reading(rows)}
        )
        race.at_most("load_vertical", ratio=1.3, statements=1)
        race = bench.race("objects, read whole", {"by hand": reading(objects_by_hand), "attrs": reading(objects)})
        race.at_most("attrs", statements=3)
        contestants = {"without any_value_index": inserting(Frugal), "with any_value_index": inserting(Indexed)}
        bench.race(f"insert {OBJECTS * FACTS:,} facts by Core", contestants)


if __name__ == "__main__":
    main()
