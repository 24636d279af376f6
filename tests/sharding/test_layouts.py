"""Shards as databases, schemas, and tables with prefixes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import ForeignKey, Index, String, create_engine, insert, inspect, literal, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship

from sqla_patterns.sharding import (
    FollowsParent,
    LookupRouter,
    ShardKey,
    Shards,
    create_all,
    drop_all,
    for_each_shard,
    pinned_to,
    sharded_sessionmaker,
)
from tests._support import Database
from tests._support._databases import server_url


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "layout_parent"
    __table_args__ = (Index("ix_layout_parent_name", "name"), Index("ux_layout", "id", "name", unique=True))
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    children: Mapped[list[Child]] = relationship(back_populates="parent")


class Child(Base):
    __tablename__ = "layout_child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("layout_parent.id"))
    parent: Mapped[Parent] = relationship(back_populates="children")


KEYS = [ShardKey(Parent.name, LookupRouter({"layout_parent": "a", "b": "b"})), FollowsParent(Child.parent)]


def exercise(shards: Shards) -> None:
    """Use all kinds of statements; names of tables occur as values too."""
    create_all(shards, Base.metadata)
    create_all(shards, Base.metadata)  # what is there stays
    maker = sharded_sessionmaker(shards, keys=KEYS)
    with maker() as session:
        session.add_all(
            [Parent(name="layout_parent", children=[Child(), Child()]), Parent(name="b", children=[Child()])]
        )
        session.commit()
        statement = select(Parent).options(joinedload(Parent.children)).order_by(Parent.name)
        found = [(each.name, len(each.children)) for each in session.scalars(statement).unique()]
        assert found == [("b", 1), ("layout_parent", 2)]
        marked = select(Parent.id).where(Parent.name == "b", literal("layout_parent.id") == "layout_parent.id")
        assert len(session.scalars(marked).all()) == 1
        session.execute(insert(Parent), [{"id": 50 + number, "name": "b"} for number in range(5)])
        first = session.scalars(select(Parent).where(Parent.name == "layout_parent")).one()
        session.delete(first.children[0])
        session.commit()
        with pinned_to("a"):
            assert len(session.scalars(select(Child)).all()) == 1
    names: list[str] = []
    for_each_shard(shards, lambda name, engine: names.append(name))
    assert names == list(shards.names)
    drop_all(shards, Base.metadata)
    drop_all(shards, Base.metadata)


@pytest.mark.only_on("postgresql")
def test_schemas_with_names_of_their_own(database: Database) -> None:
    engine = database.create_engine()
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA one"))
        connection.execute(text("CREATE SCHEMA two"))
    exercise(Shards.from_schemas(engine, {"a": "one", "b": "two"}))
    assert inspect(engine).get_table_names(schema="one") == []


def test_tables_with_prefixes(database: Database) -> None:
    engine = database.create_engine()
    shards = Shards.from_table_prefix(engine, {"a": "first_", "b": "second_"})
    create_all(shards, Base.metadata)
    assert sorted(inspect(engine).get_table_names()) == [
        "first_layout_child",
        "first_layout_parent",
        "second_layout_child",
        "second_layout_parent",
    ]
    indexes = {each["name"] for each in inspect(engine).get_indexes("second_layout_parent")}
    assert indexes == {"second_ix_layout_parent_name", "second_ux_layout"}


@pytest.mark.only_on("postgresql")
def test_prefixes_on_a_server_work_as_databases_do(database: Database) -> None:
    exercise(Shards.from_table_prefix(database.create_engine(), ["a", "b"]))


@pytest.mark.only_on("postgresql")
def test_databases_of_their_own(database: Database) -> None:
    admin = create_engine(server_url("postgresql"), isolation_level="AUTOCOMMIT")
    names = {shard: f"{database.url.database}_{shard}" for shard in ("a", "b")}
    engines: dict[str, Any] = {}
    try:
        with admin.connect() as connection:
            for name in names.values():
                connection.execute(text(f"CREATE DATABASE {name}"))
        engines = {shard: create_engine(database.url.set(database=name)) for shard, name in names.items()}
        exercise(Shards.from_engines(engines))
    finally:
        for engine in engines.values():
            engine.dispose()
        with admin.connect() as connection:
            for name in names.values():
                connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
        admin.dispose()
