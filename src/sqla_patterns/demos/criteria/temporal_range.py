"""A range of time for one statement, its eager and its lazy loads: SQLAlchemy's extending_query/temporal_range."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from sqla_patterns.criteria import HasTemporal, InvalidRangeError, temporal_range
from sqla_patterns.demos._support import demo_engine, demo_options


class Base(DeclarativeBase):
    pass


class Parent(HasTemporal, Base):
    __tablename__ = "demo_range_parent"

    id: Mapped[int] = mapped_column(primary_key=True)
    children: Mapped[list[Child]] = relationship(order_by="Child.id")


class Child(HasTemporal, Base):
    __tablename__ = "demo_range_child"

    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("demo_range_parent.id"))


def moment(month: int, day: int) -> datetime:
    return datetime(2009, month, day, 12, 0)  # noqa: DTZ001 - the mixin's column has no time zone


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
        first, second = (
            [Child(timestamp=moment(10, 15)), Child(timestamp=moment(10, 17))],
            [Child(timestamp=moment(10, 15)), Child(timestamp=moment(11, 15))],
        )
        session.add_all(
            [Parent(timestamp=moment(10, 15), children=first), Parent(timestamp=moment(10, 18), children=second)]
        )
        session.commit()

        october = temporal_range(moment(10, 16), moment(10, 18))
        loaded = (
            session.scalars(select(Parent).execution_options(populate_existing=True).options(october)).unique().all()
        )
        options.say(f"{len(loaded)} parent(s) between October 16 and 18")
        assert [parent.timestamp for parent in loaded] == [moment(10, 18)]
        # A lazy load of what was loaded with a range has the range as well.
        assert loaded[0].children == []

        session.expire_all()
        with_children = select(Parent).options(
            selectinload(Parent.children), temporal_range(moment(10, 14), moment(10, 18))
        )
        found = session.scalars(with_children.order_by(Parent.id).execution_options(populate_existing=True)).all()
        assert [len(parent.children) for parent in found] == [2, 1]

        exact = select(Parent.id).options(temporal_range(moment(10, 15), moment(10, 18), bounds="[)"))
        assert len(session.scalars(exact).all()) == 1
        try:
            temporal_range(moment(10, 18), moment(10, 16))
        except InvalidRangeError as error:
            options.say(f"refused: {error}")
    return 0
