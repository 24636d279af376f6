"""What the checkers must refuse about attributes."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqla_patterns.attributes import ActiveDefaults, AttributeChange, enable_active_defaults, listen_for_changes
from sqla_patterns.attributes.instrumentation import DictInstrumentation


class Base(ActiveDefaults, DeclarativeBase):
    pass


class Widget(Base):
    __tablename__ = "widget"
    id: Mapped[int] = mapped_column(primary_key=True)


class Gadget(Base):
    __tablename__ = "gadget"
    id: Mapped[int] = mapped_column(primary_key=True)


def on_widget(change: AttributeChange[Widget]) -> None:
    change.key = "x"  # E: "key"
    _ = change.verb == "insert"  # E: overlap
    change.target.colour  # E: "colour"


def wrong(widget: Widget) -> None:
    enable_active_defaults(Base())  # E: "Base"
    listen_for_changes(Gadget, on_widget)  # E: "Widget"
    listen_for_changes(Widget, on_widget, ["id"])  # E:
    listen_for_changes(Widget, on_widget, keys=5)  # E: "int"
    listen_for_changes(Widget, print, active_history="yes")  # E: "str"
    DictInstrumentation.named(5)  # E: "int"
