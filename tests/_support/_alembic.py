from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData


def assert_empty_diff(engine: Engine, metadata: MetaData, *, include_schemas: bool = False) -> None:
    """Assert that Alembic's autogenerate finds nothing to migrate between the database and *metadata*.

    Call it after ``metadata.create_all(engine)``. Types and server defaults are compared as well.
    """
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "compare_server_default": True, "include_schemas": include_schemas},
        )
        differences = compare_metadata(context, metadata)
    assert not differences, f"autogenerate on {engine.dialect.name} would emit: {differences}"
