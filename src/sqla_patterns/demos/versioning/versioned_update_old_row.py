"""Keep when each version began and ended, and read a whole order as it was at any moment.

It does what SQLAlchemy's ``examples/versioned_rows/versioned_update_old_row.py`` does, and goes on: any moment can be
read, with its relationships, and the relationships of an old version are those of its time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Engine, String, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, selectinload

from sqla_patterns.demos._support import DemoOptions, demo_engine, demo_options
from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.versioning import TemporalRow, stable_relationship, valid_at

HISTORY = {"include_history": True}


class Base(DeclarativeBase):
    pass


class Parent(TemporalRow, Base):
    __tablename__ = "update_old_row_parent"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    data: Mapped[str] = mapped_column(String(20))
    child_id: Mapped[uuid.UUID]
    child: Mapped[Child] = stable_relationship(lambda: Child, lambda: Parent.child_id, back_populates="parents")


class Child(TemporalRow, Base):
    __tablename__ = "update_old_row_child"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    data: Mapped[str] = mapped_column(String(20))
    parents: Mapped[list[Parent]] = stable_relationship(
        lambda: Parent, lambda: Parent.child_id, back_populates="child", order_by=lambda: Parent.data
    )


def moment() -> datetime:
    """Return the present time, which differs from that of every change before and after."""
    time.sleep(0.002)
    now = datetime.now(UTC)
    time.sleep(0.002)
    return now


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine:
        moments = _recipe(options, engine)
        _beyond(options, engine, moments)
    return 0


def _recipe(options: DemoOptions, engine: Engine) -> list[datetime]:
    """Make the assertions of the recipe, and return moments before, between and after its steps."""
    moments = [moment()]
    with Session(engine) as session:
        parent = Parent(data="p1", child=Child(data="c1"))
        session.add(parent)
        session.commit()
        moments.append(moment())

        # The parent changes: it is a new row, and the same object.
        child = parent.child
        parent.data = "p2"
        session.commit()
        moments.append(moment())
        found = session.scalars(select(Parent)).one()
        assert found is parent
        assert found.child is child
        assert (found.data, found.valid_to, session.scalar(select(func.count()).select_from(Parent))) == ("p2", None, 1)

        # The child changes: the parent does not, and refers to the new version.
        child.data = "elvis presley"
        session.commit()
        moments.append(moment())
        found = session.scalars(select(Parent)).one()
        assert found is parent
        assert found.child is child
        assert found.child.data == "elvis presley"
        options.say("now:", found.data, "with", found.child.data)

        rows = session.scalars(select(Parent).order_by(Parent.valid_from).execution_options(**HISTORY)).all()
        assert [row.data for row in rows] == ["p1", "p2"]
        assert rows[0].valid_to == rows[1].valid_from
    return moments


def _beyond(options: DemoOptions, engine: Engine, moments: list[datetime]) -> None:
    told: list[tuple[str, str] | None] = []
    for at in moments:
        with Session(engine) as session:
            statement = select(Parent).options(selectinload(Parent.child), valid_at(at))
            found = session.scalars(statement).one_or_none()
            told.append(None if found is None else (found.data, found.child.data))
            options.say(at.time(), "->", told[-1])
    assert told == [None, ("p1", "c1"), ("p2", "c1"), ("p2", "elvis presley")]

    with Session(engine) as session:
        old = session.scalars(select(Parent).where(Parent.data == "p1").execution_options(**HISTORY)).one()
        options.say("the first version had the child", old.child.data)
        assert old.child.data == "c1"

        at_that_time = select(Child.data).join(Child.parents).where(Parent.data == "p2").options(valid_at(moments[2]))
        assert session.scalars(at_that_time).all() == ["c1"]
        assert session.scalars(select(Parent.data).where(Parent.child.has(Child.data == "c1"))).all() == []

        session.delete(session.scalars(select(Parent)).one())
        session.commit()
        assert session.scalars(select(Parent)).all() == []
        assert session.scalars(select(Parent.data).options(valid_at(moments[-1]))).all() == ["p2"]
        options.say("deleted, and still there as of", moments[-1].time())

    try:
        valid_at(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    except InvalidArgumentError as error:
        options.say("refused:", error)
    else:
        raise SystemExit("a moment without a time zone was taken")
