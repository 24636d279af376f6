"""Alembic's own commands over every package and option that makes tables or columns, sync and async."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, Table, UniqueConstraint, inspect
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship

from sqla_patterns.caching import SQLStamps
from sqla_patterns.dicts import write_only_dict
from sqla_patterns.generic_associations import (
    DiscriminatorAssociation,
    GenericForeignKey,
    GenericRelationship,
    TablePerAssociation,
    TablePerRelated,
)
from sqla_patterns.graphs import GraphEdge, GraphNode, GraphOptions
from sqla_patterns.trees import (
    ClosureTable,
    KeyedTreeNode,
    LtreePath,
    MaterializedPath,
    NestedSets,
    TreeNode,
    TreeOptions,
)
from sqla_patterns.versioning import (
    CopiedRow,
    RevisionLog,
    TemporalOptions,
    TemporalRow,
    Versioned,
    VersionedRow,
    VersionOptions,
)
from tests._support import assert_migrates

from ._migrations import Migrations
from ._shop import IMPORTS, map_shop

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "pk": "pk_%(table_name)s",
}

# -- what the packages make ----------------------------------------------------------------------


def _tree(*mixins: type[Any], options: TreeOptions | None = None) -> Callable[[Any], None]:
    def build(Base: Any) -> None:
        class Node(*mixins, Base):  # type: ignore[misc]
            __tablename__ = "node"
            __tree__ = options
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(String(50))

    return build


def _edges(options: GraphOptions | None) -> Callable[[Any], None]:
    def build(Base: Any) -> None:
        class Station(GraphNode, Base):  # type: ignore[misc]
            __tablename__ = "station"
            id: Mapped[int] = mapped_column(primary_key=True)

        class Track(GraphEdge[Station], Base):  # type: ignore[misc]
            __tablename__ = "track"
            __graph__ = options
            minutes: Mapped[int] = mapped_column(default=0)

    return build


def _versioned(**options: Any) -> Callable[[Any], None]:
    def build(Base: Any) -> None:
        chosen = {name: value for name, value in options.items() if name != "logged"}
        if options.get("logged"):

            class Revision(RevisionLog, Base):  # type: ignore[misc]
                __tablename__ = "revision"
                ip: Mapped[str | None] = mapped_column(String(40), default=None)

            chosen["revision"] = Revision

        links = Table(
            "doc_tag",
            Base.metadata,
            Column("doc_id", ForeignKey("doc.id"), primary_key=True),
            Column("tag_id", ForeignKey("tag.id"), primary_key=True),
        )

        class Tag(Base):  # type: ignore[misc]
            __tablename__ = "tag"
            id: Mapped[int] = mapped_column(primary_key=True)

        class Doc(Versioned, Base):  # type: ignore[misc]
            __tablename__ = "doc"
            __versioned__ = VersionOptions(**chosen)
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str] = mapped_column(String(50), index=True)
            secret: Mapped[str] = mapped_column(String(50), unique=True)
            shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id", ondelete="CASCADE"))
            tags: Mapped[list[Any]] = relationship(Tag, secondary=links)

        class Shelf(Base):  # type: ignore[misc]
            """Not versioned, and above a versioned table by ON DELETE CASCADE."""

            __tablename__ = "shelf"
            id: Mapped[int] = mapped_column(primary_key=True)

    return build


def _temporal(*mixins: type[Any], **options: Any) -> Callable[[Any], object]:
    def build(Base: Any) -> None:
        class Doc(*mixins, Base):  # type: ignore[misc]
            __tablename__ = "doc"
            __temporal__ = TemporalOptions(**options)
            id: Mapped[int] = mapped_column(
                primary_key=True, **({} if CopiedRow in mixins else {"autoincrement": False})
            )
            title: Mapped[str] = mapped_column(String(50), index=True)

    return build


def _versioned_hierarchy(Base: Any) -> None:
    class Person(Versioned, Base):  # type: ignore[misc]
        __tablename__ = "person"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(20))

    class Engineer(Person):
        __tablename__ = "engineer"
        __mapper_args__ = {"polymorphic_identity": "engineer"}
        engineer_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
        language: Mapped[str] = mapped_column(String(20))

    class Clerk(Person):
        __mapper_args__ = {"polymorphic_identity": "clerk"}
        desk: Mapped[str | None] = mapped_column(String(20), default=None)


def _associations(strategy: Any) -> Callable[[Any], None]:
    def build(Base: Any) -> None:
        class Address(Base):  # type: ignore[misc]
            __tablename__ = "address"
            id: Mapped[int] = mapped_column(primary_key=True)

        class HasAddresses:
            addresses = strategy(Address)

        class Customer(HasAddresses, Base):  # type: ignore[misc]
            __tablename__ = "customer"
            id: Mapped[int] = mapped_column(primary_key=True)

        class Supplier(HasAddresses, Base):  # type: ignore[misc]
            __tablename__ = "supplier"
            id: Mapped[int] = mapped_column(primary_key=True)

    return build


def _table_per_related(Base: Any) -> None:
    class Address:
        id: Mapped[int] = mapped_column(primary_key=True)
        street: Mapped[str] = mapped_column(String(50))

    class HasAddresses:
        addresses = TablePerRelated(Address)

    class Customer(HasAddresses, Base):  # type: ignore[misc]
        __tablename__ = "customer"
        id: Mapped[int] = mapped_column(primary_key=True)


def _generic_foreign_key(Base: Any) -> None:
    class Note(Base):  # type: ignore[misc]
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        about: Mapped[str | None] = mapped_column(String(20))
        about_id: Mapped[int | None] = mapped_column(Integer)
        parent = GenericForeignKey["Customer"]("about", "about_id")

    class Customer(Base):  # type: ignore[misc]
        __tablename__ = "customer"
        id: Mapped[int] = mapped_column(primary_key=True)
        notes = GenericRelationship(lambda: Note, "parent")


def _dicts(Base: Any) -> None:
    class Parent(Base):  # type: ignore[misc]
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        children: WriteOnlyMapped[Any] = relationship("Child", cascade="all, delete-orphan", passive_deletes=True)
        children_by_key = write_only_dict("children", lambda: Child, lambda: Child.key)

    class Child(Base):  # type: ignore[misc]
        __tablename__ = "child"
        __table_args__ = (UniqueConstraint("parent_id", "key"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id", ondelete="CASCADE"))
        key: Mapped[str] = mapped_column(String(50))


MODELS: dict[str, Callable[[Any], object]] = {
    "tree": _tree(TreeNode),
    "sorted tree": _tree(TreeNode, options=TreeOptions(order_by=("name",), on_delete="restrict")),
    "keyed tree": _tree(KeyedTreeNode, options=TreeOptions(key="name", on_delete="adopt")),
    "nested sets": _tree(NestedSets, TreeNode),
    "materialized path": _tree(MaterializedPath, TreeNode),
    "closure table": _tree(ClosureTable, KeyedTreeNode, options=TreeOptions(key="name")),
    "edges": _edges(None),
    "acyclic edges": _edges(GraphOptions(acyclic=True)),
    "history": _versioned(),
    "history with all options": _versioned(
        logged=True, period=True, operation=True, granularity="transaction", associations=("tags",), exclude=("secret",)
    ),
    "history of a hierarchy": _versioned_hierarchy,
    "versioned rows": _temporal(VersionedRow),
    "temporal rows": _temporal(TemporalRow, on_delete="delete"),
    "copied rows with periods": _temporal(CopiedRow, period=True),
    "versioned tree": _tree(Versioned, MaterializedPath, TreeNode),
    "versioned tree with a closure": _tree(ClosureTable, TreeNode, Versioned),
    "table per association": _associations(TablePerAssociation),
    "discriminator association": _associations(DiscriminatorAssociation),
    "table per related": _table_per_related,
    "generic foreign key": _generic_foreign_key,
    "dicts": _dicts,
    "the shop": map_shop,
}


@pytest.mark.parametrize("convention", [False, True], ids=["unnamed", "convention"])
@pytest.mark.parametrize("name", MODELS)
def test_a_migration_of_each_package_runs_and_leaves_nothing_to_find(
    engine: Engine, plain_bases: Any, name: str, convention: bool
) -> None:
    """It compiles, names nothing private, upgrades, leaves no difference, downgrades; the metadata pickles."""
    base = plain_bases(metadata=MetaData(naming_convention=NAMING if convention else None))
    MODELS[name](base)
    assert_migrates(engine, base.metadata, IMPORTS)


@pytest.mark.only_on("postgresql")
def test_a_migration_of_an_ltree_runs(engine: Engine, plain_bases: Any) -> None:
    """The extension comes first, by a migration that the page of the package shows."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE EXTENSION ltree")
    base = plain_bases()
    _tree(LtreePath, TreeNode)(base)
    assert "sqla_patterns.trees.Ltree()" in assert_migrates(engine, base.metadata, IMPORTS)


def test_a_migration_of_stamps_runs(file_engine: Engine) -> None:
    metadata = MetaData()
    SQLStamps(file_engine, metadata=metadata)
    assert_migrates(file_engine, metadata)


def test_a_migration_of_a_dataclass_model_runs(engine: Engine, bases: Any) -> None:
    if bases.kind == "plain":
        map_shop(base := bases())
    else:
        _tree(NestedSets, TreeNode, Versioned)(base := bases(type_annotation_map={}))
    assert_migrates(engine, base.metadata, IMPORTS)


# -- the commands --------------------------------------------------------------------------------


def test_the_commands_create_a_shop(file_engine: Engine, plain_bases: Any, tmp_path: Path) -> None:
    """``revision --autogenerate``, ``upgrade`` and ``check``, as a user runs them."""
    base = plain_bases()
    map_shop(base)
    migrations = Migrations(tmp_path, base.metadata, file_engine, IMPORTS)
    assert "op.create_table('category_history'" in migrations.revision("shop")
    migrations.upgrade()
    migrations.check()


# Alembic drops indexes before their tables, which InnoDB refuses where a foreign key needs one; that is so without this
# library too.
@pytest.mark.only_on("sqlite", "postgresql")
def test_the_commands_take_a_shop_back(file_engine: Engine, plain_bases: Any, tmp_path: Path) -> None:
    base = plain_bases()
    map_shop(base)
    migrations = Migrations(tmp_path, base.metadata, file_engine, IMPORTS)
    migrations.revision("shop")
    migrations.upgrade()
    migrations.downgrade()
    assert set(inspect(file_engine).get_table_names()) == {"alembic_version"}


def test_the_commands_create_a_shop_through_an_async_engine(
    async_engine: AsyncEngine, file_engine: Engine, plain_bases: Any, tmp_path: Path
) -> None:
    base = plain_bases()
    map_shop(base)
    migrations = Migrations(tmp_path, base.metadata, async_engine, IMPORTS)
    migrations.revision("shop")
    migrations.upgrade()
    migrations.check()
    assert "category_history" in inspect(file_engine).get_table_names()


def test_a_column_that_is_added_later_is_nullable_in_the_history(
    file_engine: Engine, plain_bases: Any, tmp_path: Path
) -> None:
    """Old versions have no value for it, so that a NOT NULL column of the model is a nullable one of the history."""

    def model(Base: Any, *, later: bool) -> None:
        class Doc(Versioned, Base):  # type: ignore[misc]
            __tablename__ = "doc"
            id: Mapped[int] = mapped_column(primary_key=True)
            if later:
                pages: Mapped[int] = mapped_column(server_default="0")

    before, after = plain_bases(), plain_bases()
    model(before, later=False)
    model(after, later=True)
    migrations = Migrations(tmp_path, before.metadata, file_engine, IMPORTS)
    migrations.revision("first")
    migrations.upgrade()
    with file_engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO doc (id, version) VALUES (1, 2)")
        connection.exec_driver_sql(
            "INSERT INTO doc_history (id, version, changed) VALUES (1, 1, '2020-01-01 00:00:00')"
        )
    migrations.config.attributes["metadata"] = after.metadata
    migrations.revision("second")
    migrations.upgrade()
    migrations.check()
