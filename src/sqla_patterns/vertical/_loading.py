"""`load_vertical`: read the values of many objects without making objects."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Row, select, tuple_

from .._session import SyncSession, resolve_session
from .._sql import chunks
from .._typing import AnyMapper, PrimaryKey
from ..exceptions import InvalidArgumentError
from ._criteria import VerticalCriteria, entity_mapper
from ._inspection import attribute_of, is_a, short
from ._value_table import ValueTable

V = TypeVar("V")

# SQLite takes 32,766 bound parameters in one statement, PostgreSQL and MariaDB 65,535.
_IDS_AT_ONCE: Final = 10_000
# PostgreSQL compares rows with a tree of ORs as deep as the list is long; 15,000 of two columns exceed its stack.
_TUPLES_AT_ONCE: Final = 1_000


def load_vertical(
    session: SyncSession, attributes: VerticalCriteria[V], ids: Iterable[PrimaryKey]
) -> dict[PrimaryKey, dict[str, V]]:
    """Return the values of many objects by primary key and key: ``load_vertical(session, Animal.attrs, [1, 2])``.

    One SELECT for each 10,000 ids, or 1,000 where they have several columns. It goes through the session, which flushes
    before, and whose criteria apply. No object is made.

    Args:
        session: The session.
        attributes: The attribute of the class, or of an alias.
        ids: The primary keys; tuples if they have several columns.

    Returns:
        A new dictionary for each id, empty where the object has no values, or where there is no such object.

    Raises:
        InvalidArgumentError: `attributes` is no `VerticalAttributes` of a class, `ids` is no collection of primary
            keys, or one of them equals that of an object for the database only, as "1" does on SQLite where it is 1.
        StateError: A row has a type for which the class has no column.
    """
    session = resolve_session(session, "load_vertical")
    criteria = _checked(attributes)
    shape, entity = criteria.shape, criteria.entity
    mapper = entity_mapper(criteria)
    wanted = _checked_ids(mapper, ids)
    pk = [attribute_of(entity, mapper.get_property_by_column(column).key) for column in mapper.primary_key]
    names, read = _value_reader(shape.table, len(pk) + 1)
    columns = [*pk, *(attribute_of(shape.row_class, name) for name in ("key", *names))]
    join: Any = attribute_of(entity, shape.relationship)
    statement = select(*columns).select_from(entity).join(join)
    found: dict[PrimaryKey, dict[str, V]] = {each: {} for each in wanted}
    for some in chunks(found.copy(), _IDS_AT_ONCE if len(pk) == 1 else _TUPLES_AT_ONCE):
        chosen = pk[0].in_(some) if len(pk) == 1 else tuple_(*pk).in_(some)
        for row in session.execute(statement.where(chosen)):
            owner = row[0] if len(pk) == 1 else tuple(row[: len(pk)])
            values = found.get(owner)
            if values is None:
                # "1" for 1 on SQLite, "abc" for "ABC" on MariaDB: the caller would look under the ids that were given.
                raise InvalidArgumentError(
                    f"load_vertical() found {mapper.class_.__name__} {owner!r}, which equals none of the ids that it "
                    "was given; give them as they are in the database"
                )
            values[row[len(pk)]] = read(row)
    return found


def _value_reader(table: ValueTable, start: int) -> tuple[list[str], Callable[[Sequence[Any]], Any]]:
    """Return which attributes hold the value of a row, and a function that takes it out of a row of these columns.

    Args:
        table: How the values are stored.
        start: The place of the first of these columns.
    """
    attributes = [column.attribute for column in table.columns]
    if table.type_attribute is None:
        return attributes, itemgetter(start)
    places: dict[str | None, int] = {column.type_name: start + n for n, column in enumerate(table.columns, start=1)}
    # The type itself, which is None where the value is.
    places[None] = start

    def read(row: Sequence[Any]) -> Any:
        type_name = row[start]
        if type_name not in places:
            table.column_named(type_name)  # which raises
        return row[places[type_name]]

    return [table.type_attribute, *attributes], read


def _checked(attributes: object) -> VerticalCriteria[Any]:
    if not is_a(attributes, VerticalCriteria):
        raise InvalidArgumentError(
            f"load_vertical() needs the attribute of a class, as in Animal.attrs, and was given {attributes!r}"
        )
    return cast("VerticalCriteria[Any]", attributes)


def _checked_ids(mapper: AnyMapper, ids: object) -> list[PrimaryKey]:
    if isinstance(ids, str | bytes) or not is_a(ids, Iterable):
        raise InvalidArgumentError(
            f"load_vertical() takes a collection of primary keys, and {ids!r} is none; put a single one in a list"
        )
    wanted: list[PrimaryKey] = []
    count = len(mapper.primary_key)
    for each in cast("Iterable[PrimaryKey]", ids):
        several = is_a(each, tuple) or is_a(each, Row)
        fits = not several if count == 1 else several and len(each) == count
        if not fits or each is None or not is_a(each, Hashable):
            columns = "1 column" if count == 1 else f"{count} columns"
            raise InvalidArgumentError(
                f"load_vertical() takes primary keys: the primary key of {mapper.class_.__name__} has {columns}, and "
                f"{short(each)} is no value of it; give {'the values themselves' if count == 1 else 'tuples'}"
            )
        # Drivers do not take a row of a result.
        wanted.append(each if count == 1 else tuple(each))
    return wanted
