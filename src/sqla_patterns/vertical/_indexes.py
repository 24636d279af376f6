"""Add the indexes and the CHECK constraint to the table of a class of values."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import CheckConstraint, Index, String, Table, and_, or_
from sqlalchemy.sql import quoted_name

from .._typing import AnyColumn
from ._types import ValueColumnArguments, undecorated

# PostgreSQL cuts names at 63 bytes, MariaDB and MySQL refuse more than 64.
_NAME_LENGTH: Final = 63
# InnoDB: an index has at most 3,072 bytes, and a character of utf8mb4 has up to 4.
_INDEXED_CHARACTERS: Final = 768


@dataclass(frozen=True)
class MarkedColumn:
    """A column that `value_column` has made.

    Attributes:
        attribute: The name of the attribute that maps it.
        column: The column.
        arguments: What it was made with.
    """

    attribute: str
    column: AnyColumn
    arguments: ValueColumnArguments


def complete_table(
    table: Table, key: AnyColumn, type_: AnyColumn | None, marked: Sequence[MarkedColumn], *, any_value_index: bool
) -> None:
    """Give a table of values its indexes and, if it has a ``type``, its CHECK.

    Args:
        table: The table.
        key: Its column for the key.
        type_: Its column for the type; None in the plain variant.
        marked: Its value columns.
        any_value_index: Whether there are indexes without the key as well.
    """
    indexed = [each.column for each in marked if each.arguments.index]
    for column in indexed:
        _add_index(table, key, column)
    if any_value_index and indexed:
        for column in indexed:
            _add_index(table, column)
        if type_ is not None:
            # For None, whose rows have no type.
            _add_index(table, type_)
    if type_ is not None:
        _add_check(table, type_, marked)


def _add_index(table: Table, *columns: AnyColumn) -> None:
    """Add an index to a table, unless the user has declared one that begins with these columns."""
    if any(_begins_with(index, columns) for index in table.indexes):
        return
    first, last = columns[0], columns[-1]
    taken = {index.name for index in table.indexes}
    lengths = _prefix_lengths(columns)
    options: dict[str, Any] = {"mysql_length": lengths, "mariadb_length": lengths} if lengths else {}
    index, by_first = Index(None, *columns, **options), Index(None, first)
    table.indexes.discard(by_first)
    name = f"ix_{table.name}_{first.name}" if index.name is None else str(index.name)
    if len(columns) > 1 and index.name == by_first.name:
        # The convention names an index after its first column, as SQLAlchemy's default does, and that is the key for
        # all of them.
        name = f"{name}_{last.name}"
    if _shortened(name) in taken:
        name = f"{name}_{last.name}_only"
    index.name = quoted_name(_shortened(name), quote=None)


def _begins_with(index: Index, columns: Sequence[AnyColumn]) -> bool:
    found = list(index.expressions)[: len(columns)]
    # Columns compare to SQL expressions.
    return len(found) == len(columns) and all(one is other for one, other in zip(found, columns, strict=True))


def _prefix_lengths(columns: Sequence[AnyColumn]) -> dict[str, int]:
    """Return how much of the last column MariaDB and MySQL can index, if it is not all of it."""
    *first, last = [_length(column) for column in columns]
    available = _INDEXED_CHARACTERS - sum(first)
    return {columns[-1].name: available} if last > available > 0 else {}


def _length(column: AnyColumn) -> int:
    kind = undecorated(column.type)
    if not isinstance(kind, String):
        return 0
    # Text has no length.
    return kind.length or _INDEXED_CHARACTERS + 1


def _add_check(table: Table, type_: AnyColumn, marked: Sequence[MarkedColumn]) -> None:
    # Each value is in the column of its type, so that no two columns are set. `type` must be asked whether it is NULL:
    # a CHECK is kept where it is neither true nor false.
    rules = [or_(each.column.is_(None), and_(type_.is_not(None), type_ == each.arguments.type_name)) for each in marked]
    # Where the user's convention makes the name, it is given the part that tells constraints of a table apart.
    by_convention = "ck" in table.metadata.naming_convention
    name = "one_value" if by_convention else _shortened(f"ck_{table.name}_one_value")
    table.append_constraint(CheckConstraint(and_(*rules), name=name))


def _shortened(name: str) -> str:
    """Return a name that every database takes, which ends with a digest where it is a long one cut off."""
    if len(name) <= _NAME_LENGTH:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name[: _NAME_LENGTH - len(digest) - 1]}_{digest}"
