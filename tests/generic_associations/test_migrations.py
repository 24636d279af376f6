"""Tables and columns of every strategy and option can be migrated with Alembic."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import configure_mappers

from tests._support import assert_migrates

from ._models import map_models, map_with_composite_keys

CONVENTION = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no rule on delete": {"ondelete": None},
    "another table": {"table_name": "of_{table}_here"},
    "not owned": {"cascade": "save-update, merge"},
}


@pytest.fixture(params=[None, CONVENTION], ids=["no convention", "naming convention"])
def metadata(request: pytest.FixtureRequest) -> MetaData:
    return MetaData(naming_convention=request.param)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_tables_of_each_option_migrate(
    strategy: str, plain_bases: Any, metadata: MetaData, engine: Engine, option: str
) -> None:
    options = {
        name: value
        for name, value in OPTIONS[option].items()
        if strategy != "generic_foreign_key" or name not in ("ondelete", "table_name")
    }
    map_models(strategy, plain_bases(metadata=metadata), **options)
    configure_mappers()
    source = assert_migrates(engine, metadata)
    assert "sqla_patterns" not in source


def test_composite_keys_migrate(strategy: str, plain_bases: Any, metadata: MetaData, engine: Engine) -> None:
    map_with_composite_keys(strategy, plain_bases(metadata=metadata))
    assert_migrates(engine, metadata)


def test_tables_hold_nothing_of_ours(strategy: str, plain_bases: Any, metadata: MetaData) -> None:
    map_models(strategy, plain_bases(metadata=metadata))
    configure_mappers()
    tables = metadata.tables.values()
    assert [table.info for table in tables] == [{}] * len(tables)
    assert [column.info for table in tables for column in table.c if column.info] == []
