"""`register_native`: which databases have QUALIFY."""

from __future__ import annotations

from typing import Final

from ..exceptions import InvalidArgumentError

_NATIVE: Final = {"bigquery", "clickhouse", "databricks", "duckdb", "snowflake", "teradatasql"}


def register_native(name: str) -> None:
    """Say that a dialect has QUALIFY, beside those that are known to have it.

    Call it once, before statements are compiled. It counts for the whole process.

    Args:
        name: The name of the dialect, as in ``engine.dialect.name``.

    Raises:
        InvalidArgumentError: `name` is no name.
    """
    if not isinstance(name, str) or not name.isidentifier():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(
            f"register_native() needs the name of a dialect and was given {name!r}; pass engine.dialect.name"
        )
    _NATIVE.add(name)


def is_native(name: str) -> bool:
    """Return whether the dialect of this name has QUALIFY."""
    return name in _NATIVE
