"""Dialects that have QUALIFY get it, where SQLAlchemy has a place for it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import CompileError
from sqlalchemy.orm import joinedload

from sqla_patterns.exceptions import InvalidArgumentError
from sqla_patterns.syntax import _native, qualified, qualify, register_native

from ._models import Author, Post

NEWEST = func.row_number().over(partition_by=Post.author_id, order_by=Post.id)
needs_ext = pytest.mark.usefixtures("select_ext")


def _sql(statement: Any, name: str = "snowflake") -> str:
    dialect: Any = DefaultDialect()
    dialect.name = name
    return " ".join(str(statement.compile(dialect=dialect)).split())


@pytest.fixture
def registry_as_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a registry of its own."""
    monkeypatch.setattr(_native, "_NATIVE", set(_native._NATIVE))


@needs_ext
@pytest.mark.parametrize("name", ["bigquery", "clickhouse", "databricks", "duckdb", "snowflake", "teradatasql"])
def test_known_dialects_get_the_clause(name: str) -> None:
    statement = select(Post.id).where(Post.id > 3).order_by(Post.title).ext(qualify(NEWEST == 1))
    assert _sql(statement, name) == (
        "SELECT post.id FROM post WHERE post.id > :id_1 "
        "QUALIFY row_number() OVER (PARTITION BY post.author_id ORDER BY post.id) = :param_1 ORDER BY post.title"
    )


@needs_ext
def test_the_function_gives_the_clause_as_well() -> None:
    table: Any = Post.__table__
    statement = qualified(select(table.c.kind).group_by(table.c.kind), func.count() > 1, func.count() < 9)
    assert _sql(statement) == (
        "SELECT post.kind FROM post GROUP BY post.kind QUALIFY count(*) > :count_1 AND count(*) < :count_2"
    )


@needs_ext
def test_a_second_condition_needs_a_subquery_all_the_same() -> None:
    statement = select(Post.id).ext(qualify(NEWEST == 1)).ext(qualify(NEWEST == 1))
    assert "QUALIFY" not in _sql(statement)
    assert _sql(statement).count("SELECT") == 3


@needs_ext
def test_rows_that_an_eager_load_adds_are_not_counted() -> None:
    statement = select(Author).options(joinedload(Author.posts))
    position = func.row_number().over(order_by=Author.id)
    assert "QUALIFY" not in _sql(qualified(statement, position == 1))
    assert "QUALIFY" in _sql(qualified(select(Author), position == 1))


@pytest.mark.usefixtures("no_select_ext")
def test_without_a_place_for_the_clause_every_dialect_gets_a_subquery() -> None:
    assert "WHERE anon_1._qualified_0 = " in _sql(qualified(select(Post.id), NEWEST == 1))


def test_other_dialects_get_a_subquery() -> None:
    assert _sql(qualified(select(Post.id), Post.id == 1), "sqlite") == (
        "SELECT anon_1.id FROM (SELECT post.id AS id, CASE WHEN (post.id = :id_1) THEN 1 ELSE 0 END AS _qualified_0 "
        "FROM post) AS anon_1 WHERE anon_1._qualified_0 = :qualified_0_1"
    )


@needs_ext
def test_another_dialect_can_be_registered(registry_as_found: None) -> None:
    statement = qualified(select(Post.id), NEWEST == 1)
    assert "QUALIFY" not in _sql(statement, "redshift")
    register_native("redshift")
    assert "QUALIFY" in _sql(statement, "redshift")


@pytest.mark.parametrize("name", ["", None, "post gres", 7])
def test_what_is_no_name_is_refused(name: Any, registry_as_found: None) -> None:
    with pytest.raises(InvalidArgumentError, match=r"pass engine\.dialect\.name"):
        register_native(name)


@needs_ext
def test_the_element_alone_cannot_be_compiled() -> None:
    with pytest.raises(CompileError, match="as a part of its SELECT"):
        _sql(qualify(NEWEST == 1))
