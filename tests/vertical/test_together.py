"""Values beside other packages and inside of frameworks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, MetaData, select
from sqlalchemy.exc import SADeprecationWarning
from sqlalchemy.orm import DeclarativeBase, Session, registry
from sqlmodel import Field, Relationship, SQLModel

from sqla_patterns.exceptions import PatternError
from sqla_patterns.versioning import versions
from sqla_patterns.vertical import VerticalAttributes, VerticalValue, load_vertical, value_column
from tests.vertical import _models as models

# -- versioning --------------------------------------------------------------------------------------


def test_a_history_keeps_the_former_values(plain_bases: Any, engine: Engine, session: Session) -> None:
    m = models.versioned(plain_bases)
    m.Base.metadata.create_all(engine)
    session.add(animal := m.Animal())
    animal.attrs = {"x": 1, "y": "text", "z": None}
    session.commit()
    animal.attrs["x"] = "one"
    animal.attrs["y"] = "other"
    session.commit()
    del animal.attrs["y"]
    session.commit()
    row = animal.facts["x"]
    assert [(old.type, old.int_value, old.str_value) for old in (each.object for each in versions(session, row))] == [
        ("int", 1, None),
        ("str", None, "one"),
    ]
    assert [each.object.value for each in versions(session, animal.facts["z"])] == [None]
    assert animal.attrs == {"x": "one", "z": None}


# -- SQLModel ----------------------------------------------------------------------------------------


@pytest.fixture
def shop() -> Iterator[Any]:
    """Map products of SQLModel, whose attributes are fields of pydantic."""
    metadata = MetaData()

    class Base(SQLModel):
        pass

    Base.metadata = metadata

    class ProductFact(VerticalValue, Base, table=True):
        __tablename__ = "product_fact"
        product_id: int = Field(foreign_key="product.id", primary_key=True)
        int_value: int | None = Field(default=None, sa_column=value_column(int).column)
        str_value: str | None = Field(default=None, sa_column=value_column(str).column)

    class Product(Base, table=True):
        __tablename__ = "product"
        id: int | None = Field(default=None, primary_key=True)
        name: str
        facts: dict[str, ProductFact] = Relationship(sa_relationship=models.by_key(argument=ProductFact))
        attrs: ClassVar[VerticalAttributes[int | str | None]] = VerticalAttributes("facts")

    yield Product
    metadata.clear()


def test_sqlmodel_has_values(shop: Any, engine: Engine) -> None:
    shop.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(product := shop(name="mug"))
        product.attrs["size"] = 5
        product.attrs.update({"colour": "red", "none": None})
        session.commit()
        product.attrs["size"] = "large"
        del product.attrs["none"]
        product.attrs["none"] = 1
        session.commit()
        assert product.attrs == {"size": "large", "colour": "red", "none": 1}
        assert session.scalars(select(shop).where(shop.attrs["colour"] == "red")).all() == [product]
        assert load_vertical(session, shop.attrs, [product.id]) == {product.id: dict(product.attrs)}
        with pytest.raises(PatternError):
            product.attrs["size"] = 5.0


# -- other bases -------------------------------------------------------------------------------------


def _exercise(engine: Engine, animal_class: Any) -> None:
    animal_class.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(animal := animal_class())
        animal.attrs = {"x": 1, "y": "text"}
        session.commit()
        animal.attrs["x"] = "one"
        del animal.attrs["y"]
        session.commit()
        assert animal.attrs == {"x": "one"}
        assert session.scalars(select(animal_class).where(animal_class.attrs["x"] == "one")).all() == [animal]
        with pytest.raises(PatternError):
            animal.attrs["x"] = 5.0


def test_flask_sqlalchemy_has_values(engine: Engine) -> None:
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db: Any = SQLAlchemy(app)
    animal_class, _ = models.on_base(db.Model)
    with app.app_context():
        db.create_all()
        db.session.add(animal := animal_class())
        animal.attrs["x"] = 5
        db.session.commit()
        assert db.session.scalars(db.select(animal_class).where(animal_class.attrs["x"] > 4)).all() == [animal]
        assert load_vertical(db.session, animal_class.attrs, [animal.id]) == {animal.id: {"x": 5}}
        db.session.remove()
        db.engine.dispose()
    _exercise(engine, animal_class)
    db.Model.registry.dispose()


def test_advanced_alchemy_has_values(engine: Engine) -> None:
    with warnings.catch_warnings():
        # Its modules use what SQLAlchemy 2.1 deprecates.
        warnings.simplefilter("ignore", SADeprecationWarning)
        from advanced_alchemy.base import BasicAttributes, CommonTableAttributes, create_registry

    class Base(CommonTableAttributes, BasicAttributes, DeclarativeBase):
        registry = create_registry(custom_annotation_map={})
        metadata = MetaData()

    animal_class, _ = models.on_base(Base)
    _exercise(engine, animal_class)
    Base.registry.dispose()


def test_a_decorator_of_a_registry_maps_values(engine: Engine) -> None:
    mapper_registry = registry()
    animal_class, _ = models.on_registry(mapper_registry)
    animal_class.metadata = mapper_registry.metadata
    _exercise(engine, animal_class)
    mapper_registry.dispose()


def test_the_attribute_may_come_from_a_mixin(plain_bases: Any, engine: Engine) -> None:
    for name in ("one", "two"):
        animal_class, fact = models.on_base(plain_bases(), name=name, mixin=models.HasAttributes)
        assert animal_class.attrs.shape.row_class is fact
        assert animal_class.attrs.shape.label == f"{animal_class.__name__}.attrs"
        _exercise(engine, animal_class)
