"""Column defaults that are read before the object is flushed, and are stored as they were read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID, uuid4

from sqlalchemy import JSON, DateTime, String, func, select
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.attributes import ActiveDefaults, enable_active_defaults
from sqla_patterns.demos._support import demo_engine, demo_options


class Context(Protocol):
    """What a default may be given."""

    def get_current_parameters(self) -> Mapping[str, Any]: ...


def now() -> dt.datetime:
    return dt.datetime.now(tz=dt.UTC).replace(tzinfo=None, microsecond=0)


def label(context: Context) -> str:
    return f"{context.get_current_parameters()['name']} of radius {context.get_current_parameters()['radius']}"


class Base(ActiveDefaults, DeclarativeBase):
    pass


class Widget(Base):
    __tablename__ = "demo_active_defaults_widget"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(String(20))
    radius: Mapped[int] = mapped_column(default=30)
    timestamp: Mapped[dt.datetime] = mapped_column(DateTime, default=now)
    label: Mapped[str] = mapped_column(String(60), default=label)
    options: Mapped[dict[str, int]] = mapped_column(MutableDict.as_mutable(JSON()), default={})
    stored_at: Mapped[dt.datetime | None] = mapped_column(DateTime, default=func.current_timestamp())


class PlainBase(DeclarativeBase):
    """A base that somebody else has made."""


class Gadget(PlainBase):
    __tablename__ = "demo_active_defaults_gadget"

    id: Mapped[int] = mapped_column(primary_key=True)
    weight: Mapped[int | None] = mapped_column(default=5)


def main(argv: Sequence[str] | None = None) -> int:
    options = demo_options(__doc__, argv)
    with demo_engine(options, Base.metadata, PlainBase.metadata) as engine, Session(engine) as session:
        # Nothing is persisted, and the defaults are there the moment they are read.
        widget = Widget(name="cog")
        assert widget.radius == 30
        key, current_time = widget.id, widget.timestamp
        assert current_time > now() - dt.timedelta(seconds=5)
        options.say("read before the flush:", widget.radius, widget.timestamp, repr(widget.label))

        # Upstream's recipe stops where a default needs the context, is mutable, or is SQL.
        assert widget.label == "cog of radius 30"
        widget.options["depth"] = 2
        assert Widget(name="other").options == {}, "a mutable default is not shared"
        assert widget.stored_at is None, "the database makes it"

        session.add(widget)
        session.commit()
        row = session.execute(select(Widget.id, Widget.radius, Widget.timestamp, Widget.options)).one()
        assert row == (key, 30, current_time, {"depth": 2}), "the callables were not run again"
        assert session.scalar(select(Widget.stored_at)) is not None
        options.say("stored:", *row)

        widget.options["depth"] = 3
        session.commit()
        assert session.scalars(select(Widget.options)).one() == {"depth": 3}, "changes inside it are tracked"

        # For a base that is not yours, and for a while.
        with enable_active_defaults(PlainBase):
            weight = Gadget().weight
        assert (weight, Gadget().weight) == (5, None)
        options.say("a gadget weighs", weight)
    return 0
