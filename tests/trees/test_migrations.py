"""What a tree adds to the user's MetaData is plain data: Alembic renders it, a migration creates it, and it pickles."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import Mapped, mapped_column

from sqla_patterns._maintained import maintained_columns, maintained_tables
from sqla_patterns.trees import ClosureTable, Ltree, TreeNode, TreeOptions
from tests._support._alembic import assert_migrates
from tests.conftest import BaseFactory
from tests.trees._shapes import KEY_KINDS, PLAIN, Shape, Tree

#: The line that the guide tells users to put into script.py.mako.
IMPORTS = "import sqla_patterns.trees"


@pytest.fixture
def unmade(shape: Shape, engine: Engine) -> Any:
    """Return a tree class of the shape whose tables have not been created."""
    if shape.index.name == "ltree":
        with engine.begin() as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS ltree"))
    factory = BaseFactory("dataclass" if shape.base == "dataclass" else "plain")
    yield Tree(shape, factory())
    factory.dispose()


def test_every_index_and_shape_migrates(unmade: Tree, engine: Engine) -> None:
    """A migration that autogenerate writes creates the tables and drops them again."""
    assert_migrates(engine, unmade.metadata, IMPORTS)


@pytest.mark.parametrize("shape", [param for param in KEY_KINDS if param.values[0].key in ("string", "renamed")])
def test_every_kind_of_key_migrates(unmade: Tree, engine: Engine) -> None:
    """The same holds for keys of other types and columns of other names."""
    assert_migrates(engine, unmade.metadata, IMPORTS)


@pytest.mark.parametrize("shape", PLAIN)
@pytest.mark.parametrize("on_delete", ["cascade", "restrict", "adopt", "root"])
def test_every_policy_migrates(shape: Shape, engine: Engine, on_delete: str) -> None:
    """The same holds for the foreign keys of every policy, and for names by a convention."""
    if shape.index.name == "ltree":
        with engine.begin() as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS ltree"))
    convention = {"ix": "ix_%(column_0_label)s", "fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"}
    factory = BaseFactory("plain")
    Base = factory(metadata=MetaData(naming_convention=convention))
    assert_migrates(engine, Tree(shape, Base, on_delete=on_delete).metadata, IMPORTS)
    factory.dispose()


@pytest.mark.parametrize("shape", PLAIN)
def test_the_tables_carry_nothing_of_the_library(unmade: Tree) -> None:
    """``Table.info`` and ``Column.info`` are empty, also in a copy of the MetaData that went through pickle."""
    copy: MetaData = pickle.loads(pickle.dumps(unmade.metadata))
    assert len(copy.tables) == 1 + unmade.shape.index.tables
    for table in copy.tables.values():
        assert not table.info
        assert not any(column.info for column in table.c)


def test_ltree_is_named_by_its_public_path() -> None:
    """A migration imports the type from the package."""
    assert f"{Ltree.__module__}.{Ltree.__qualname__}" == "sqla_patterns.trees.Ltree"


def test_the_closure_is_told_to_other_packages(plain_bases: Any) -> None:
    """Other packages learn which table is derived from a class, from its subclasses too."""
    Base = plain_bases()
    Unit = _unit(Base)
    assert maintained_tables(Unit) == [Base.metadata.tables["unit_closure"]]


def test_a_copied_closure_is_taken_for_one(plain_bases: Any) -> None:
    """A class that is mapped to copies of tables finds the closure among them."""
    first = plain_bases()
    Unit = _unit(first)
    copied = MetaData()
    for table in first.metadata.tables.values():
        table.to_metadata(copied)
    second = plain_bases(metadata=copied)
    unit = copied.tables["unit"]
    columns = {"parent_id": unit.c.parent_id, "position": unit.c.position}
    other = type("Unit", (ClosureTable, TreeNode, second), {"__table__": unit, "__module__": __name__, **columns})
    assert maintained_tables(other) == [copied.tables["unit_closure"]]
    assert maintained_tables(Unit) == [first.metadata.tables["unit_closure"]]


def _unit(Base: Any) -> Any:
    class Unit(ClosureTable, TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "unit"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Unit


# -- what a tree maintains -----------------------------------------------------------------------

KEPT = {
    "adjacency": set(),
    "nested": {"left", "right", "depth", "tree_id"},
    "closure": set(),
    "paths": {"path"},
    "ltree": {"path"},
}


def test_the_columns_of_an_index_are_declared(shape: Shape) -> None:
    """An index declares its columns: derived, not for histories, dumps or users."""
    factory = BaseFactory("dataclass" if shape.base == "dataclass" else "plain")
    declared = maintained_columns(Tree(shape, factory()).cls)
    factory.dispose()
    index = {name for name, column in declared.items() if name != "position"}
    assert index == KEPT[shape.index.name]
    assert not any(declared[name].in_history or declared[name].in_dump or declared[name].settable for name in index)


def test_the_position_is_declared(shape: Shape) -> None:
    """A position may be set and belongs to the history of a row; a dump leaves it out."""
    factory = BaseFactory("dataclass" if shape.base == "dataclass" else "plain")
    declared = maintained_columns(Tree(shape, factory()).cls)
    factory.dispose()
    found = {name: (column.in_history, column.in_dump, column.settable) for name, column in declared.items()}
    assert found.get("position") == ((True, False, True) if shape.positioned else None)


def test_a_position_of_the_users_own_is_not_declared(plain_bases: Any) -> None:
    """Where siblings sort themselves, a column of that name is the user's."""
    Base = plain_bases()

    class Track(TreeNode, Base):  # type: ignore[misc]
        __tablename__ = "track"
        __tree__ = TreeOptions(order_by=("position",))
        id: Mapped[int] = mapped_column(primary_key=True)
        position: Mapped[str] = mapped_column()

    assert "position" not in maintained_columns(Track)
