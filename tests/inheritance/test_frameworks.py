"""The bases of frameworks, which name tables and add keys by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_patterns.inheritance import ConcreteTable, JoinedTable, SingleTable, load_polymorphic

TABLES = {
    SingleTable: ["person"],
    JoinedTable: ["engineer", "person", "senior_engineer"],
    ConcreteTable: ["engineer", "person", "senior_engineer"],
}


@pytest.mark.parametrize("mixin", TABLES)
@pytest.mark.parametrize("named", [True, False])
def test_flask_sqlalchemys_model_is_a_base(mixin: Any, named: bool) -> None:
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    class Base(DeclarativeBase):
        pass

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(app, model_class=Base)

    class Person(mixin, db.Model):  # type: ignore[misc]
        if named:
            __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Engineer(Person):
        language: Mapped[str | None] = mapped_column(String(20))

    class SeniorEngineer(Engineer):
        years: Mapped[int | None]

    assert sorted(db.metadata.tables) == TABLES[mixin]
    with app.app_context():
        db.create_all()
        db.session.add(SeniorEngineer(language="C", years=3))
        db.session.commit()
        found = db.session.scalars(select(Person).options(load_polymorphic(Person))).one()
        assert (type(found), found.language, found.years) == (SeniorEngineer, "C", 3)
        db.session.remove()
        db.engine.dispose()


# advanced_alchemy uses a decorator that SQLAlchemy 2.1 deprecates.
@pytest.mark.filterwarnings("ignore:The declarative_mixin decorator")
@pytest.mark.parametrize("mixin", TABLES)
def test_advanced_alchemys_uuid_base_is_a_base(mixin: Any, engine: Engine, session: Session) -> None:
    from advanced_alchemy.base import CommonTableAttributes, UUIDPrimaryKey

    class Base(UUIDPrimaryKey, CommonTableAttributes, DeclarativeBase):
        pass

    class Person(mixin, Base):  # type: ignore[misc]
        pass

    class Engineer(Person):
        language: Mapped[str | None] = mapped_column(String(20))

    class SeniorEngineer(Engineer):
        years: Mapped[int | None]

    assert sorted(Base.metadata.tables) == TABLES[mixin]
    Base.metadata.create_all(engine)
    session.add(SeniorEngineer(language="C", years=3))
    session.commit()
    session.expunge_all()
    found = session.scalars(select(Person).options(load_polymorphic(Person))).one()
    assert (type(found), found.language, found.years) == (SeniorEngineer, "C", 3)
