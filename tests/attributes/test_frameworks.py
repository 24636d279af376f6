"""The bases of frameworks."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.attributes import AttributeChange, enable_active_defaults, listen_for_changes


def test_flask_sqlalchemys_models_have_active_defaults_and_are_heard() -> None:
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    class Base(DeclarativeBase):
        pass

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(app, model_class=Base)
    told: list[AttributeChange[Any]] = []
    with enable_active_defaults(db.Model), listen_for_changes(db.Model, told.append):

        class Widget(db.Model):  # type: ignore[misc,name-defined]
            id: Mapped[int] = mapped_column(primary_key=True)
            radius: Mapped[int] = mapped_column(default=30)

        with app.app_context():
            db.create_all()
            widget = Widget()
            assert widget.radius == 30
            widget.radius += 1
            db.session.add(widget)
            db.session.commit()
            assert widget.radius == 31
            db.session.remove()
            db.engine.dispose()
    assert [(change.key, change.old, change.value) for change in told] == [("radius", 30, 31)]


# advanced_alchemy uses a decorator that SQLAlchemy 2.1 deprecates.
@pytest.mark.filterwarnings("ignore:The declarative_mixin decorator")
def test_advanced_alchemys_keys_are_known_before_the_flush(engine: Engine, session: Session) -> None:
    from advanced_alchemy.base import CommonTableAttributes, UUIDPrimaryKey

    class Base(UUIDPrimaryKey, CommonTableAttributes, DeclarativeBase):
        pass

    class Widget(Base):
        name: Mapped[str | None] = mapped_column(String(20))

    Base.metadata.create_all(engine)
    with enable_active_defaults(Base):
        widget = Widget()
        key = widget.id
        session.add(widget)
        session.commit()
    assert isinstance(key, UUID)
    assert widget.id == key


def test_sqlmodels_columns_have_active_defaults_and_are_heard(engine: Engine, session: Session) -> None:
    from sqlalchemy import Column, Integer
    from sqlalchemy.orm import registry
    from sqlmodel import Field, SQLModel

    class Base(SQLModel, registry=registry()):
        pass

    class Widget(Base, table=True):
        id: int | None = Field(default=None, primary_key=True)
        radius: int = Field(sa_column=Column(Integer, default=30, nullable=False))

    Base.metadata.create_all(engine)
    told: list[AttributeChange[Any]] = []
    with enable_active_defaults(Base), listen_for_changes(Base, told.append, keys=["radius"]):
        widget = Widget()
        assert widget.radius == 30
        widget.radius = 31
        session.add(widget)
        session.commit()
    assert [(change.old, change.value) for change in told] == [(30, 31)]
    assert widget.radius == 31
