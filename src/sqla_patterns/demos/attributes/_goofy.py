"""The part of the demo custom_management that runs in a separate process."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence

from sqlalchemy import Column, ForeignKey, Integer, String, Table
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, registry, relationship

from sqla_patterns.attributes.instrumentation import DictInstrumentation
from sqla_patterns.demos._support import demo_engine, demo_options

mapping = registry()


class MyClass:
    __sa_instrumentation_manager__ = DictInstrumentation.named("_goofy_dict")


def goofy(obj: MyClass) -> dict[str, object]:
    """Return the dictionary with the values of an object."""
    values: dict[str, object] = vars(obj)["_goofy_dict"]
    return values


class A(MyClass):
    id: int
    name: str
    bs: list[B]

    def __init__(self, name: str, bs: Sequence[B] = ()) -> None:
        self.name = name
        self.bs = list(bs)


class B(MyClass):
    id: int
    name: str

    def __init__(self, name: str) -> None:
        self.name = name


a_id: Column[int] = Column("id", Integer, primary_key=True)
table1 = Table("demo_goofy_a", mapping.metadata, a_id, Column("name", String(20)))
table2 = Table(
    "demo_goofy_b",
    mapping.metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(20)),
    Column("t1id", Integer, ForeignKey(a_id)),
)
mapping.map_imperatively(A, table1, properties={"bs": relationship(B)})
mapping.map_imperatively(B, table2)


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, mapping.metadata) as engine, Session(engine) as session:
        a1 = A(name="a1", bs=[B(name="b1"), B(name="b2")])
        assert a1.name == "a1"
        assert a1.bs[0].name == "b1"
        assert goofy(a1)["name"] == "a1"
        assert "name" not in vars(a1)
        options.say("a new object:", sorted(vars(a1)), sorted(goofy(a1)))

        session.add(a1)
        session.commit()
        a1 = session.get_one(A, a1.id)
        assert a1.name == "a1"
        a1.bs.remove(a1.bs[0])
        session.commit()
        a1 = session.get_one(A, a1.id)
        assert len(a1.bs) == 1
        options.say("loaded again:", goofy(a1)["name"], "with", len(a1.bs), "b")

        # Where upstream stops: it survives pickling and merging.
        copy = pickle.loads(pickle.dumps(a1))
        copy.name = "renamed"
        session.rollback()
        session.merge(copy)
        session.commit()
        assert a1.name == goofy(a1)["name"] == "renamed"
        options.say("merged from a pickle:", a1.name)

        try:

            class Base(DeclarativeBase):
                pass

            class Wrong(Base):
                __sa_instrumentation_manager__ = DictInstrumentation
                __tablename__ = "demo_goofy_wrong"
                id: Mapped[int] = mapped_column(primary_key=True)

        except ArgumentError as error:
            options.say("refused:", error)
        else:
            raise AssertionError(Wrong)
    return 0


if __name__ == "__main__":
    sys.exit(main())
