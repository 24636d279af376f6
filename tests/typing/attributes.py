"""What a user of attributes reads."""

from __future__ import annotations

from typing import Any, Literal, assert_type

from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, MappedAsDataclass, mapped_column

from sqla_patterns.attributes import (
    ActiveDefaults,
    AttributeAttachment,
    AttributeChange,
    enable_active_defaults,
    listen_for_changes,
)
from sqla_patterns.attributes.instrumentation import DictInstrumentation


class Base(ActiveDefaults, DeclarativeBase):
    pass


class Widget(Base):
    __tablename__ = "widget"
    id: Mapped[int] = mapped_column(primary_key=True)
    radius: Mapped[int] = mapped_column(default=30)


class DataclassBase(ActiveDefaults, MappedAsDataclass, DeclarativeBase):
    pass


class Gadget(DataclassBase):
    __tablename__ = "gadget"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    weight: Mapped[int] = mapped_column(default=3)


class Goofy:
    __sa_instrumentation_manager__ = DictInstrumentation.named("_goofy_dict")


def defaults(widget: Widget) -> None:
    assert_type(widget.radius, int)
    assert_type(Widget.radius, InstrumentedAttribute[int])
    assert_type(Gadget(weight=5).weight, int)
    handle = enable_active_defaults(Base)
    assert_type(handle, AttributeAttachment)
    assert_type(handle.attached, bool)
    assert_type(handle.target, type[Any])
    handle.detach()
    with enable_active_defaults(Base) as entered:
        assert_type(entered, AttributeAttachment)


def on_widget(change: AttributeChange[Widget]) -> None:
    assert_type(change.target, Widget)
    assert_type(change.verb, Literal["set", "append", "remove", "delete", "bulk_replace"])
    assert_type(change.key, str)
    assert_type(change.value, Any)
    assert_type(change.old, Any)
    assert_type(change.old_known, bool)
    assert_type(change.propagated, bool)
    if change.verb == "set":
        assert_type(change.target.radius, int)


def on_base(change: AttributeChange[Base]) -> str:
    return change.key


def changes() -> None:
    assert_type(listen_for_changes(Widget, on_widget), AttributeAttachment)
    listen_for_changes(Base, on_base, keys=["radius"], active_history=True)
    listen_for_changes(Base, on_base, keys={"radius"})
    collected: list[AttributeChange[Widget]] = []
    with listen_for_changes(Widget, collected.append):
        pass
    listen_for_changes(Widget, lambda change: print(change.target.radius))


def instrumentation() -> None:
    assert_type(DictInstrumentation.named("_values"), type[DictInstrumentation])
    assert_type(DictInstrumentation.name, str)
