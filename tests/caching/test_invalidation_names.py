"""Writers and readers of a table use the same tag; what plain text does is judged by its words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.orm import Session, aliased, sessionmaker

from sqla_patterns.caching._dependencies import dependencies
from sqla_patterns.caching._freshness import Freshness
from sqla_patterns.caching._memory_stamps import MemoryStamps
from sqla_patterns.caching._tags import TableName, table_tags, tables_of
from sqla_patterns.caching._writes import Raw, prepared_xid, raw_kind
from sqla_patterns.exceptions import InvalidArgumentError
from tests.caching._reader import Reader
from tests.caching._shop import Address, Employee, Person, membership

# -- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "names"),
    [
        ("address", {(None, "address")}),
        ("shop.address", {("shop", "address")}),
        (Address, {(None, "shop_address")}),
        (aliased(Address), {(None, "shop_address")}),
        (Address.__table__, {(None, "shop_address")}),
        (Employee, {(None, "shop_person"), (None, "shop_employee")}),
        (membership, {(None, "shop_membership")}),
        (membership.alias(), {(None, "shop_membership")}),
        (membership.join(Person.__table__), {(None, "shop_membership"), (None, "shop_person")}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_table_is_named_by_class_table_or_name(thing: Any, names: set[Any]) -> None:
    assert tables_of(thing) == names


@pytest.mark.parametrize("thing", [42, None, object(), select], ids=lambda thing: type(thing).__name__)
def test_what_names_no_table_is_refused(thing: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="names no table"):
        tables_of(thing)


def test_the_default_schema_is_one_tag_with_its_name(engine: Engine) -> None:
    bare = table_tags(engine, [TableName(None, "person")])
    default = {"sqlite": "main", "postgresql": "public", "mysql": engine.url.database or ""}[engine.dialect.name]
    assert bare == table_tags(engine, [TableName(default, "person")])
    assert bare != table_tags(engine, [TableName("other", "person")])
    with engine.connect() as connection:
        assert bare == table_tags(connection, [TableName(None, "person")])


def test_the_way_to_a_database_does_not_matter_unless_it_is_given_a_name() -> None:
    names = [TableName(None, "person")]
    one, two = create_engine("sqlite:////somewhere/one.db"), create_engine("sqlite://")
    assert table_tags(one, names) == table_tags(two, names)
    named = one.execution_options(cache_database="one")
    assert table_tags(named, names) != table_tags(two, names)
    assert table_tags(named, names) == table_tags(two.execution_options(cache_database="one"), names)


def test_schemas_are_named_as_they_are_translated() -> None:
    engine = create_engine("sqlite://")
    names = [TableName(None, "person"), TableName("tenant", "person")]
    assert table_tags(engine, names, {"tenant": "a"}) == {"t:|main.person", "t:|a.person"}
    assert table_tags(engine, names, {None: "b", "tenant": None}) == {"t:|b.person", "t:|main.person"}


@pytest.mark.only_on("postgresql")
def test_tenants_in_schemas_do_not_end_each_others_entries(engine_factory: Callable[..., Engine]) -> None:
    engine = engine_factory()
    metadata = MetaData()
    table = Table("tenant_item", metadata, Column("id", Integer, primary_key=True))
    with engine.begin() as connection:
        for schema in ("a", "b"):
            connection.execute(text(f"CREATE SCHEMA {schema}"))
            connection.execute(text(f"CREATE TABLE {schema}.tenant_item (id INTEGER PRIMARY KEY)"))
    reader = Reader(Freshness(MemoryStamps()))
    reader.freshness.track_engine(engine)
    maps = {name: {"schema_translate_map": {None: name}} for name in ("a", "b")}

    def look(name: str) -> tuple[int, str]:
        with Session(engine) as session, reader.attach(session):
            return len(reader.rows(session, select(table.c.id), name, maps[name])), reader.last

    for name in ("a", "b", "a", "b"):
        look(name)
    # By the statement's option, by the engine's, and with the schema's own name.
    with engine.begin() as connection:
        connection.execute(insert(table).values(id=1), execution_options=maps["a"])
    assert [look("a"), look("b")] == [(1, "put"), (0, "hit")]
    with engine.execution_options(**maps["b"]).begin() as connection:
        connection.execute(insert(table).values(id=1))
    assert [look("a"), look("b")] == [(1, "hit"), (1, "put")]
    explicit = Table("tenant_item", MetaData(schema="a"), Column("id", Integer, primary_key=True))
    with sessionmaker(engine).begin() as session:
        session.execute(insert(explicit).values(id=2))
    assert [look("a"), look("b")] == [(2, "put"), (1, "hit")]


# -- what cannot be told -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        text("SELECT * FROM person"),
        select(text("1")),
        select(text("x")).select_from(text("person")),
        select(Address.id).where(text("id IN (SELECT 1 FROM hidden)")),
        select(Table("scratch", MetaData(), Column("id", Integer), prefixes=["TEMPORARY"]).c.id),
    ],
    ids=lambda statement: type(statement).__name__,
)
def test_a_statement_that_may_hide_tables_says_so(statement: Any) -> None:
    engine = create_engine("sqlite://")
    assert dependencies(statement, engine.dialect).opaque


@pytest.mark.parametrize(
    "statement",
    [
        select(Address.id).where(text("street = 'select a table'")),
        select(Address.id).order_by(text("id DESC")),
        select(Address.id).where(text("id = :one")).params(one=1),
    ],
    ids=["a literal", "an order", "a parameter"],
)
def test_text_that_can_name_columns_only_hides_nothing(statement: Any) -> None:
    engine = create_engine("sqlite://")
    found = dependencies(statement, engine.dialect)
    assert found.opaque is None
    assert found.tables == {(None, "shop_address")}
    assert not found.writes


def test_a_statement_that_writes_in_a_common_table_expression_says_so() -> None:
    engine = create_engine("sqlite://")
    cte = insert(membership).values(person_id=1, club_id=1).returning(membership.c.club_id).cte()
    assert dependencies(select(cte.c.club_id), engine.dialect).writes


# -- plain text ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "statements"),
    [
        (
            Raw.READ,
            ["SELECT 1", " (select 1)", "VALUES (1)", "SHOW x", "EXPLAIN SELECT 1", "PRAGMA foreign_keys=ON",
             "SET x = 1", "", "-- DELETE\nSELECT 1", "/* x */ SELECT ';DELETE'",
             "WITH a AS (SELECT 1) SELECT * FROM a FOR UPDATE", "SAVEPOINT a", "ROLLBACK", "RELEASE SAVEPOINT a",
             "SELECT 1;", "XA START 'x'", "PREPARE TRANSACTION 'x'"],
        ),
        (
            Raw.WRITE,
            ["INSERT INTO x VALUES (1)", "update x set a = 1", "  DELETE FROM x", "MERGE INTO x USING y", "CALL f()",
             "DO $$ x $$", "COPY x FROM stdin", "REPLACE INTO x VALUES (1)",
             "WITH a AS (DELETE FROM x RETURNING 1) SELECT * FROM a",
             "EXPLAIN ANALYZE DELETE FROM x", "SELECT 1; DELETE FROM x", "something unknown"],
        ),
        (
            Raw.DDL,
            ["CREATE TABLE x (id int)", "alter table x add y int", "DROP VIEW x", "TRUNCATE x", "/**/TRUNCATE TABLE x"],
        ),
        (
            Raw.COMMIT,
            ["COMMIT", "commit work", "END", "BEGIN", "START TRANSACTION", "LOCK TABLES x WRITE", "SET autocommit=1"],
        ),
        (Raw.PREPARED, ["COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'", "XA COMMIT 'x'", "xa rollback 'x'"]),
        (
            Raw.ISOLATION,
            ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "BEGIN ISOLATION LEVEL REPEATABLE READ",
             "SET SESSION transaction_isolation = 'READ-COMMITTED'", "PRAGMA read_uncommitted = 1"],
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Raw) else "",
)  # fmt: skip
def test_what_plain_text_does_is_told_by_its_words(kind: Raw, statements: list[str]) -> None:
    assert {sql: raw_kind(sql) for sql in statements} == dict.fromkeys(statements, kind)


def test_the_name_of_a_prepared_transaction_is_found_in_the_text_or_the_parameters() -> None:
    assert prepared_xid("COMMIT PREPARED 'one'", ()) == "one"
    assert prepared_xid("XA COMMIT %(xid)s", {"xid": "two"}) == "two"
    assert prepared_xid("XA COMMIT %s", ("three",)) == "three"
    assert prepared_xid("XA COMMIT", None) is None
