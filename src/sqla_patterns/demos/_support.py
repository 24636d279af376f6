"""What demos share: the common options, and an engine that leaves the database as it was found.

A demo reads::

    def main(argv: Sequence[str] | None = None) -> int:
        options = demo_options(__doc__, argv)
        with demo_engine(options, Base.metadata) as engine, Session(engine) as session:
            ...
            options.say("the tree:", ...)
        return 0
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine, MetaData, create_engine, inspect

__all__ = ("DemoOptions", "demo_engine", "demo_options", "demo_parser")


class DemoOptions(argparse.Namespace):
    """The options that every demo takes; subclass it to add a demo's own, with their types."""

    url: str
    echo: bool
    quiet: bool

    def say(self, *parts: object) -> None:
        """Print, unless ``--quiet`` was given."""
        if not self.quiet:
            print(*parts)


def demo_parser(doc: str | None) -> argparse.ArgumentParser:
    """Build a parser with the common options, for a demo that adds its own.

    Finish with ``parser.parse_args(argv, namespace=MyOptions())``, where ``MyOptions`` subclasses `DemoOptions`.
    """
    parser = argparse.ArgumentParser(
        description=(doc or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--url", default="sqlite://", help="database to run on; it is left as found")
    parser.add_argument("--echo", action="store_true", help="log every SQL statement")
    parser.add_argument("--quiet", action="store_true", help="print nothing unless something fails")
    return parser


def demo_options(doc: str | None, argv: Sequence[str] | None = None) -> DemoOptions:
    """Parse the common options."""
    return demo_parser(doc).parse_args(argv, namespace=DemoOptions())


@contextmanager
def demo_engine(options: DemoOptions, *metadata: MetaData) -> Generator[Engine, None, None]:
    """Yield an engine on ``options.url`` with the tables of *metadata*, which are dropped at the end.

    Raises:
        SystemExit: a table of that name is in the database already. Creating it would use, and dropping it would
            destroy, somebody's rows.
    """
    engine = create_engine(options.url, echo=options.echo)
    try:
        inspector = inspect(engine)
        for each in metadata:
            for table in each.tables.values():
                if inspector.has_table(table.name, schema=table.schema):
                    raise SystemExit(
                        f"{engine.url!r} has a table {table.fullname!r} already, which this demo would overwrite: "
                        "choose another database with --url"
                    )
        try:
            for each in metadata:
                each.create_all(engine)
            yield engine
        finally:
            for each in reversed(metadata):
                each.drop_all(engine)
    finally:
        engine.dispose()
