"""Declarations and notices by which the packages on one class cooperate without importing each other.

Mixins of several packages can be used on one class, for instance those of a tree and of versioning. With the names of
this module, each package declares on its own mixin what it writes by itself, and reads what the others declare:

- `MaintainedColumn`: a mapped attribute that a package writes. A history table leaves out those that follow from other
  columns, and `dump_tree` leaves out those that mean nothing in another table.
- `maintained_tables()`: tables that a package derives from a class and rewrites as a whole.
- `before_maintenance()`: tells the other packages that one is about to change rows by Core statements, which the unit
  of work does not see. A package that keeps copies of rows makes them now.
- `column_added()`: tells the other packages that one has added a column to a class that was mapped already.
- `deleting_for_good()`: what a session deletes within this block is removed, and not only marked as deleted.
- `note_new_keys()`: tells the other packages that one has given objects the primary keys of rows that it has inserted.
- `CURRENT_TENANT`: the tenant for whom this thread or task reads and writes, which is part of every cache key.

Declarations are attributes of classes and are found by walking the MRO, so that nothing depends on the order in which
mixins are listed or listeners are registered.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast
from weakref import WeakSet

from sqlalchemy import Table
from sqlalchemy.orm import Session

from ._typing import AnyState

#: The attribute of a mixin or mapped class with its `MaintainedColumn` objects, a tuple.
MAINTAINED_COLUMNS: Final = "__sqla_maintained_columns__"
#: The attribute of a mapped class with its derived tables, a tuple.
MAINTAINED_TABLES: Final = "__sqla_maintained_tables__"
#: The attribute of a mixin or mapped class with a static method of the type `BeforeMaintenance`.
BEFORE_MAINTENANCE: Final = "__sqla_before_maintenance__"

#: The attribute of a mixin or mapped class with a static method that takes a class to which a column was added.
COLUMN_ADDED: Final = "__sqla_column_added__"

#: The tenant for whom this thread or task reads and writes: None where there is none, `ALL_TENANTS` in administration.
CURRENT_TENANT: Final[ContextVar[object]] = ContextVar("sqla_patterns_tenant", default=None)
#: Stands for all tenants in `CURRENT_TENANT`.
ALL_TENANTS: Final = "sqla_patterns_all_tenants"

_FOR_GOOD: Final = "sqla_patterns.deletes_for_good"
_NEW_KEYS: Final = "sqla_patterns.new_keys"

BeforeMaintenance: TypeAlias = Callable[[Session, Sequence[Any]], None]


@dataclass(frozen=True)
class MaintainedColumn:
    """A mapped attribute that a package writes by itself.

    Attributes:
        attribute: The name of the attribute on the mapped class, which need not exist under all options of the package.
        maintained_by: The name of the mixin, for texts of errors.
        in_history: Whether a history of the rows may hold it. False for what follows from other columns and is shifted
            in many rows at a time, such as the bounds of nested sets.
        in_dump: Whether a dump of the object may hold it, to be inserted elsewhere.
        settable: Whether users may assign it.
        shifted: Whether the package changes it in rows beside those that users change, such as the position of
            siblings. What a history holds of it is what the row had when its version ended, and not what it had at
            another moment.
    """

    attribute: str
    maintained_by: str
    in_history: bool = False
    in_dump: bool = False
    settable: bool = False
    shifted: bool = False


def maintained_columns(cls: type[Any]) -> Mapping[str, MaintainedColumn]:
    """Return what packages maintain on `cls`, by the name of the attribute; a subclass may declare one again."""
    found: dict[str, MaintainedColumn] = {}
    for declared in _declared(cls, MAINTAINED_COLUMNS):
        for column in cast("Iterable[MaintainedColumn]", declared):
            found.setdefault(column.attribute, column)
    return found


def maintained_tables(cls: type[Any]) -> Sequence[Table]:
    """Return the tables that packages derive from the rows of `cls` and its bases."""
    return [table for declared in _declared(cls, MAINTAINED_TABLES) for table in cast("Iterable[Table]", declared)]


def before_maintenance(session: Session, cls: type[Any], objects: Sequence[Any]) -> None:
    """Tell the other packages on `cls` that rows of its tables are about to be changed by Core statements.

    Args:
        session: The session whose flush makes the changes.
        cls: The mapped class.
        objects: The persistent objects that this flush changes for sure, and whose rows still hold their former values.
            Rows that are shifted beside them are not named.
    """
    for listener in _static_methods(cls, BEFORE_MAINTENANCE):
        cast("BeforeMaintenance", listener)(session, objects)


def column_added(cls: type[Any]) -> None:
    """Tell the other packages on `cls` that its table and its mapper have a column more since it was mapped."""
    for listener in _static_methods(cls, COLUMN_ADDED):
        cast("Callable[[type[Any]], None]", listener)(cls)


@contextmanager
def deleting_for_good(session: Session) -> Generator[None, None, None]:
    """Say that what `session` deletes within the block is removed from the database, even if its class only marks rows.

    For packages that erase or rebuild. Flushes belong inside of the block.
    """
    session.info[_FOR_GOOD] = session.info.get(_FOR_GOOD, 0) + 1
    try:
        yield
    finally:
        session.info[_FOR_GOOD] -= 1


def deletes_for_good(session: Session) -> bool:
    """Return whether `session` is within `deleting_for_good()`."""
    return bool(session.info.get(_FOR_GOOD))


def note_new_keys(session: Session, states: Iterable[AnyState]) -> None:
    """Note that these objects have become rows that the present flush has inserted, with other primary keys."""
    noted: WeakSet[AnyState] = session.info.setdefault(_NEW_KEYS, WeakSet[AnyState]())
    noted.update(states)


def has_new_key(session: Session, state: AnyState) -> bool:
    """Return whether `note_new_keys` was called for an object in the present flush."""
    return state in session.info.get(_NEW_KEYS, ())


def forget_new_keys(session: Session) -> None:
    """Begin another flush."""
    session.info.pop(_NEW_KEYS, None)


def _static_methods(cls: type[Any], name: str) -> list[Any]:
    # Looked up in vars(), where a static method is not yet unwrapped.
    found = _declared(cls, name)
    return [each.__func__ if isinstance(each, staticmethod) else each for each in found]


def _declared(cls: type[Any], name: str) -> list[Any]:
    return [vars(base)[name] for base in cls.__mro__ if name in vars(base)]
