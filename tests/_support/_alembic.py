from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine, MetaData


def _context(connection: Connection, *, include_schemas: bool = False) -> MigrationContext:
    return MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "compare_server_default": True,
            "include_schemas": include_schemas,
            "alembic_module_prefix": "op.",
            "sqlalchemy_module_prefix": "sa.",
        },
    )


def assert_empty_diff(engine: Engine, metadata: MetaData, *, include_schemas: bool = False) -> None:
    """Assert that Alembic's autogenerate finds nothing to migrate between the database and *metadata*.

    Call it after ``metadata.create_all(engine)``. Types and server defaults are compared as well.
    """
    with engine.connect() as connection:
        differences = compare_metadata(_context(connection, include_schemas=include_schemas), metadata)
    assert not differences, f"autogenerate on {engine.dialect.name} would emit: {differences}"


def assert_migrates(engine: Engine, metadata: MetaData, imports: str = "", *, include_schemas: bool = False) -> str:
    """Assert that a user can create *metadata* with ``alembic revision --autogenerate`` and ``alembic upgrade``.

    What autogenerate renders compiles, names nothing private, upgrades the empty database, leaves nothing for a second
    autogenerate, and downgrades; ``create_all()`` makes the same; the metadata is plain data and can be pickled.

    Args:
        imports: The import lines that the guide tells users to put into ``script.py.mako``, if any.
        include_schemas: Whether tables of schemas other than the default one are looked at.

    Returns:
        The rendered migration.
    """
    copy: MetaData = pickle.loads(pickle.dumps(metadata))
    assert set(copy.tables) == set(metadata.tables)
    with engine.connect() as connection:
        migration = produce_migrations(_context(connection, include_schemas=include_schemas), metadata)
    assert migration.upgrade_ops is not None
    assert migration.downgrade_ops is not None
    up = render_python_code(migration.upgrade_ops, migration_context=_context_of(engine))
    down = render_python_code(migration.downgrade_ops, migration_context=_context_of(engine))
    if engine.dialect.name in ("mysql", "mariadb"):
        # InnoDB refuses to drop the index of a foreign key, and drops it together with the table: whoever downgrades
        # there takes these lines out of what Alembic writes, for each column with a foreign key and index=True.
        down = "\n".join(line for line in down.splitlines() if not line.strip().startswith("op.drop_index("))
    # Alembic writes the dialects that it needs into the template itself.
    dialects = "from sqlalchemy.dialects import mysql, postgresql, sqlite"
    source = (
        f"{imports}\n{dialects}\nimport sqlalchemy as sa\n\n\n"
        f"def upgrade(op):\n    {up}\n\n\ndef downgrade(op):\n    {down}\n"
    )
    assert "info=" not in source, source
    assert "._" not in source.replace("op.f(", ""), f"a private path in:\n{source}"
    namespace: dict[str, Any] = {}
    exec(compile(source, "<migration>", "exec"), namespace)
    _run(engine, namespace["upgrade"])
    assert_empty_diff(engine, metadata, include_schemas=include_schemas)
    _run(engine, namespace["downgrade"])
    left = set(sa.inspect(engine).get_table_names()) & {table.name for table in metadata.tables.values()}
    assert left == set()
    # What create_all() makes is what the migration makes.
    metadata.create_all(engine)
    assert_empty_diff(engine, metadata, include_schemas=include_schemas)
    metadata.drop_all(engine)
    return source


def _context_of(engine: Engine) -> MigrationContext:
    with engine.connect() as connection:
        return _context(connection)


def _run(engine: Engine, migrate: Callable[[Operations], None]) -> None:
    with engine.begin() as connection:
        migrate(Operations(_context(connection)))
