"""Mappings for the tests, on any declarative base. No postponed annotations: these classes are local to functions."""

import enum
import itertools
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import JSON, DateTime, ForeignKey, String, func
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, mapped_column, registry, relationship

from sqla_patterns.attributes import ActiveDefaults


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


def widgets(bases: Any, *mixins: type) -> Any:
    """Map a class with a default of each kind. On a dataclass base the columns are no fields of the constructor."""
    Base = bases()
    no_init: dict[str, Any] = {"init": False} if bases.kind == "dataclass" else {}
    default = "insert_default" if bases.kind == "dataclass" else "default"
    serial = itertools.count(1)
    m = SimpleNamespace(Base=Base, calls=[])

    def next_number() -> int:
        m.calls.append("number")
        return next(serial)

    def make_slug(context: Any) -> str:
        m.calls.append("slug")
        return str(context.get_current_parameters()["name"]).lower()

    class Widget(*mixins, Base):  # type: ignore[misc]
        __tablename__ = "widget"
        id: Mapped[UUID] = mapped_column(primary_key=True, **{default: uuid4}, **no_init)
        name: Mapped[str | None] = mapped_column("widget_name", String(30), key="name", **no_init)
        radius: Mapped[int | None] = mapped_column(**{default: 30}, **no_init)
        zero: Mapped[int] = mapped_column(**{default: 0}, **no_init)
        color: Mapped[Color] = mapped_column(**{default: Color.BLUE}, **no_init)
        serial: Mapped[int] = mapped_column(**{default: next_number}, **no_init)
        slug: Mapped[str | None] = mapped_column(String(30), **{default: make_slug}, **no_init)
        plain: Mapped[dict[str, Any]] = mapped_column(JSON, **{default: {"a": [1]}}, **no_init)
        tracked: Mapped[dict[str, Any]] = mapped_column(
            MutableDict.as_mutable(JSON()), **{default: {"a": 1}}, **no_init
        )
        created: Mapped[Any] = mapped_column(DateTime, **{default: func.now()}, **no_init)
        server: Mapped[int] = mapped_column(server_default=sa.text("7"), **no_init)
        none: Mapped[int | None] = mapped_column(**no_init)
        parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("widget.id"), **no_init)
        parent: Mapped["Widget | None"] = relationship(remote_side=[id], **no_init)

    m.Widget = Widget
    return m


def hierarchy(bases: Any) -> Any:
    """Map a joined and a single-table subclass, the joined one with another default for an attribute of the base."""
    Base = bases()
    no_init: dict[str, Any] = {"init": False} if bases.kind == "dataclass" else {}
    default = "insert_default" if bases.kind == "dataclass" else "default"

    class Shape(ActiveDefaults, Base):  # type: ignore[misc,valid-type]
        __tablename__ = "shape"
        id: Mapped[UUID] = mapped_column(primary_key=True, **{default: uuid4}, **no_init)
        kind: Mapped[str] = mapped_column(String(20), **no_init)
        size: Mapped[int] = mapped_column(**{default: 1}, **no_init)
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "shape"}

    class Circle(Shape):
        __tablename__ = "circle"
        id: Mapped[UUID] = mapped_column(ForeignKey("shape.id"), primary_key=True, **no_init)
        radius: Mapped[int] = mapped_column(**{default: 2}, **no_init)
        __mapper_args__ = {"polymorphic_identity": "circle"}

    class Dot(Shape):
        color: Mapped[str | None] = mapped_column(String(20), **{default: "black"}, **no_init)
        __mapper_args__ = {"polymorphic_identity": "dot"}

    return SimpleNamespace(Base=Base, Shape=Shape, Circle=Circle, Dot=Dot)


def mapped(*mixins: type) -> Any:
    """Map a class by ``registry.mapped``, and one that is mapped imperatively."""
    mapping = registry()

    class Plain(*mixins):  # type: ignore[misc]
        __tablename__ = "plain"
        id: Mapped[int] = mapped_column(primary_key=True)
        size: Mapped[int] = mapped_column(default=5)

    class Imperative(*mixins):  # type: ignore[misc]
        pass

    mapping.mapped(Plain)
    table = sa.Table(
        "imperative",
        mapping.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("the_size", sa.Integer, key="size", default=6),
    )
    mapping.map_imperatively(Imperative, table, properties={"length": table.c.size})
    return SimpleNamespace(registry=mapping, Plain=Plain, Imperative=Imperative)
