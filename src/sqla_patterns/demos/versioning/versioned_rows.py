"""Turn an UPDATE into an INSERT with a new key, beside parents that follow the new version, or keep the old one.

It does what SQLAlchemy's ``examples/versioned_rows/versioned_rows.py`` does, and goes on: deletions, statements, the
rows of one object, and a parent that stays with the version that it saw.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, ForeignKey, String, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_options
from sqla_patterns.versioning import ClosedVersionError, CopiedRow, pinned_relationship

HISTORY = {"include_history": True}


class Base(DeclarativeBase):
    pass


class Example(CopiedRow, Base):
    __tablename__ = "versioned_rows_example"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[str] = mapped_column(String(20))


class Child(CopiedRow, Base):
    __tablename__ = "versioned_rows_child"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[str] = mapped_column(String(20))


class Parent(Base):
    """Follows each new version of its child, as in the recipe."""

    __tablename__ = "versioned_rows_parent"

    id: Mapped[int] = mapped_column(primary_key=True)
    child_id: Mapped[int] = mapped_column(ForeignKey("versioned_rows_child.id"))
    child: Mapped[Child] = pinned_relationship(lambda: Child, lambda: Parent.child_id, follow=True)


class Witness(Base):
    """Keeps the version that it saw: a plain relationship."""

    __tablename__ = "versioned_rows_witness"

    id: Mapped[int] = mapped_column(primary_key=True)
    child_id: Mapped[int] = mapped_column(ForeignKey("versioned_rows_child.id"))
    child: Mapped[Child] = relationship()


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine:
        _recipe(options, engine)
        _beyond(options, engine)
    return 0


def _recipe(options: DemoOptions, engine: Engine) -> None:
    """Make the assertions of the recipe."""
    with Session(engine) as session:
        example = Example(data="e1")
        session.add(example)
        session.commit()
        example.data = "e2"
        session.commit()
        every = select(Example.id, Example.data).order_by(Example.id).execution_options(**HISTORY)
        rows = [(key, data) for key, data in session.execute(every)]
        options.say("both versions are rows:", rows)
        assert rows == [(1, "e1"), (2, "e2")]
        assert example.id == 2

        parent = Parent(child=Child(data="c1"))
        session.add(parent)
        session.commit()
        assert parent.child_id == 1
        parent.child.data = "c2"
        session.commit()
        options.say("the parent follows the child to version", parent.child_id)
        assert parent.child_id == 2
        children = select(Child.id, Child.data).order_by(Child.id).execution_options(**HISTORY)
        rows = [(key, data) for key, data in session.execute(children)]
        assert rows == [(1, "c1"), (2, "c2")]


def _beyond(options: DemoOptions, engine: Engine) -> None:
    with Session(engine) as session:
        # One object is one row to whoever does not ask for more.
        child = session.scalars(select(Child)).one()
        assert (child.data, child.object_id, child.is_current) == ("c2", 1, True)

        witness = Witness(child=child)
        session.add(witness)
        session.commit()
        child.data = "c3"
        session.commit()
        options.say("the witness still sees", witness.child.data, "and the object is", child.data)
        assert (witness.child.data, child.data) == ("c2", "c3")

        # A statement makes versions too, and the object in hand is the new one.
        session.execute(update(Child).where(Child.data == "c3").values(data="c4"))
        assert child.data == "c4"
        session.commit()
        versions = session.scalars(
            select(Child).where(Child.object_id == child.object_id).order_by(Child.id).execution_options(**HISTORY)
        ).all()
        options.say("all versions of the child:", [each.data for each in versions])
        assert [each.data for each in versions] == ["c1", "c2", "c3", "c4"]

        versions[0].data = "another past"
        try:
            session.flush()
        except ClosedVersionError as error:
            options.say("refused:", error)
            session.rollback()
        else:
            raise SystemExit("a closed version was changed")

        session.delete(child)
        session.commit()
        assert session.scalars(select(Child)).all() == []
        kept = session.scalars(select(Child).execution_options(**HISTORY)).all()
        options.say("deleted, and", len(kept), "rows are still there")
        assert len(kept) == 4
