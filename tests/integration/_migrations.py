"""A migration environment of Alembic as a user has it, driven by its own commands."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

_SYNC = """
from alembic import context

metadata, engine = (context.config.attributes[name] for name in ("metadata", "engine"))


def run(connection):
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


"""
_ENVIRONMENTS = {
    False: _SYNC + "with engine.connect() as connection:\n    run(connection)\n",
    True: _SYNC
    + """import asyncio


async def run_async():
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


asyncio.run(run_async())
""",
}


class Migrations:
    """A migration environment in a folder, over a metadata and an engine."""

    def __init__(self, folder: Path, metadata: MetaData, engine: Engine | AsyncEngine, imports: str) -> None:
        """Make the environment by ``alembic init``, with `imports` in ``script.py.mako``."""
        self.folder = folder / "migrations"
        self.config = Config(stdout=_Quiet())
        self.config.set_main_option("script_location", str(self.folder))
        self.config.set_main_option("path_separator", "os")
        self.config.config_file_name = str(folder / "alembic.ini")
        command.init(self.config, str(self.folder))
        self.config.attributes.update(metadata=metadata, engine=engine)
        (self.folder / "env.py").write_text(_ENVIRONMENTS[isinstance(engine, AsyncEngine)], encoding="utf-8")
        template = self.folder / "script.py.mako"
        text = template.read_text(encoding="utf-8")
        template.write_text(text.replace("import sqlalchemy as sa\n", f"import sqlalchemy as sa\n{imports}\n"), "utf-8")

    def revision(self, message: str) -> str:
        """Run ``alembic revision --autogenerate`` and return the migration that it has written."""
        made = command.revision(self.config, message, autogenerate=True)
        assert made is not None
        assert not isinstance(made, list)
        return Path(made.path).read_text(encoding="utf-8")

    def upgrade(self) -> None:
        """Run ``alembic upgrade head``."""
        command.upgrade(self.config, "head")

    def downgrade(self) -> None:
        """Run ``alembic downgrade base``."""
        command.downgrade(self.config, "base")

    def check(self) -> None:
        """Run ``alembic check``, which raises if a new autogenerate would find something."""
        command.check(self.config)


class _Quiet:
    def write(self, text: str) -> None:
        """Drop what Alembic prints."""

    def flush(self) -> None:
        """Do nothing."""
