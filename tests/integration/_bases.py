"""The declarative bases that users have, each as a way to map a class with a key and a name."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column, registry
from sqlmodel import Field, SQLModel

with warnings.catch_warnings():
    # advanced-alchemy 1.12 uses a decorator that SQLAlchemy 2.1 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from advanced_alchemy.base import BasicAttributes, create_registry
    from advanced_alchemy.mixins import UUIDPrimaryKey


class Build:
    """Maps classes on one kind of base, with a registry of its own.

    ``build("Node", (TreeNode,), {"__tree__": ...})`` maps a class with the columns `id`, which is generated, and
    `name`.
    """

    def __init__(self, reg: registry, make: Callable[[str, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        self._registry = reg
        self._make = make

    def __call__(self, name: str, mixins: tuple[Any, ...], body: dict[str, Any]) -> Any:
        return self._make(name, mixins, body)

    def dispose(self) -> None:
        self._registry.dispose(cascade=True)


def _class(name: str, bases: tuple[Any, ...], body: dict[str, Any], **keywords: Any) -> Any:
    namespace = {"__module__": __name__, "__tablename__": name.lower(), **body}
    return types.new_class(name, bases, keywords, lambda space: space.update(namespace))


def _body(body: dict[str, Any], **columns: Any) -> dict[str, Any]:
    own = {"id": mapped_column(primary_key=True), "name": mapped_column(String(50)), **columns}
    return {"__annotations__": {"id": Mapped[int], "name": Mapped[str]}, **own, **body}


def plain() -> Build:
    """Return a builder on a plain `DeclarativeBase`."""

    class Base(DeclarativeBase):
        pass

    return Build(Base.registry, lambda name, mixins, body: _class(name, (*mixins, Base), _body(body)))


def dataclass() -> Build:
    """Return a builder on a `MappedAsDataclass` base, with a generated key that is no argument."""

    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    def make(name: str, mixins: tuple[Any, ...], body: dict[str, Any]) -> Any:
        return _class(name, (*mixins, Base), _body(body, id=mapped_column(primary_key=True, init=False)))

    return Build(Base.registry, make)


def registry_mapped() -> Build:
    """Return a builder with the decorator ``registry.mapped``, without any base."""
    reg = registry(metadata=MetaData())

    def make(name: str, mixins: tuple[Any, ...], body: dict[str, Any]) -> Any:
        return reg.mapped(_class(name, mixins, {**_body(body), "__init__": reg.constructor, "metadata": reg.metadata}))

    return Build(reg, make)


def flask_sqlalchemy() -> Build:
    """Return a builder on ``db.Model`` of Flask-SQLAlchemy."""

    class Base(DeclarativeBase):
        pass

    db = SQLAlchemy(model_class=Base)
    return Build(db.Model.registry, lambda name, mixins, body: _class(name, (*mixins, db.Model), _body(body)))


def sqlmodel() -> Build:
    """Return a builder on `SQLModel`, whose classes are pydantic models too."""
    reg = registry(metadata=MetaData())
    # A base with a registry of its own, as SQLModel's documentation has it for several metadatas.
    base = _class("Base", (SQLModel,), {"__annotations__": {}, "metadata": reg.metadata}, registry=reg)

    def make(name: str, mixins: tuple[Any, ...], body: dict[str, Any]) -> Any:
        columns = {"id": Field(default=None, primary_key=True), "name": Field(max_length=50)}
        annotations = {"id": int | None, "name": str}
        return _class(name, (*mixins, base), {"__annotations__": annotations, **columns, **body}, table=True)

    return Build(reg, make)


def advanced_alchemy() -> Build:
    """Return a builder on a base of advanced-alchemy, whose key is a UUID that the base brings."""

    class Base(UUIDPrimaryKey, BasicAttributes, DeclarativeBase):
        __abstract__ = True
        registry = create_registry()

    def make(name: str, mixins: tuple[Any, ...], body: dict[str, Any]) -> Any:
        own = {"__annotations__": {"name": Mapped[str]}, "name": mapped_column(String(50))}
        return _class(name, (*mixins, Base), {**own, **body})

    return Build(Base.registry, make)


BASES: dict[str, Callable[[], Build]] = {
    "plain": plain,
    "dataclass": dataclass,
    "registry.mapped": registry_mapped,
    "Flask-SQLAlchemy": flask_sqlalchemy,
    "SQLModel": sqlmodel,
    "advanced-alchemy": advanced_alchemy,
}
