"""`VerticalValue` and `PlainVerticalValue`: the mixins for the class whose rows hold the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Column, String, Table, event
from sqlalchemy.orm import Mapped, mapped_column

from .._declarative import mixin_attr, on_mapped
from .._typing import AnyColumn, AnyMapper, AnyType, MappedClass
from ..exceptions import MappingError, StateError
from ._indexes import MarkedColumn, complete_table
from ._inspection import is_a
from ._options import options_of
from ._types import take_arguments
from ._value_column import ValueColumn
from ._value_table import ValueTable, set_value_table, value_table

_KEY_LENGTH: Final = 64
_TYPE_LENGTH: Final = 64


class _KeyedRow:
    """A row with a key, which both variants have."""

    if TYPE_CHECKING:

        @mixin_attr
        def key(cls) -> Mapped[str]:
            """Return the key of the fact."""
            raise NotImplementedError

    else:

        @mixin_attr
        def key(cls):
            # A dictionary tells "A" from "a", which the default collation of MariaDB and MySQL does not.
            exact = String(_KEY_LENGTH, collation="utf8mb4_bin")
            return mapped_column(
                String(_KEY_LENGTH).with_variant(exact, "mysql", "mariadb"), primary_key=True, sort_order=1
            )


class VerticalValue(_KeyedRow):
    """A mixin for rows with a key and a value of one of several types: the polymorphic variant.

    Mix it in before the declarative base, and map a `value_column` for each type. The mixin adds ``key``, a part of the
    primary key unless you map it yourself, and ``type``, which says which column holds the value and is NULL where the
    value is None. The table gets two indexes for each value column, one over key and value and one over the value
    alone, an index over ``type``, and a CHECK that a value is in no column but that of its type. What has no index, and
    how to do without the second, is said at `value_column` and `VerticalValueOptions`.

    Raises:
        MappingError: While the class is mapped, if there is no value column, or two are for one type or type name.
    """

    if TYPE_CHECKING:

        @mixin_attr
        def type(cls) -> Mapped[str | None]:
            """Return the name of the type of the value."""
            raise NotImplementedError

    else:

        @mixin_attr
        def type(cls):
            return mapped_column(String(_TYPE_LENGTH), nullable=True, sort_order=2)

        @mixin_attr
        def _sqla_vertical_value(cls):
            # Adds nothing: SQLAlchemy evaluates it while it maps a class.
            _listen(cls, _complete_typed)
            return

    @property
    def value(self) -> Any:
        """The value, of any of the types; setting it sets ``type`` and clears the columns of other types.

        Setting it knows no schema: that belongs to the class with the dictionary.

        Raises:
            UnsupportedValueError: There is no column for values of this type.
            UnstorableValueError: The column could not give the value back as it is.
        """
        return _table_of(self).read(self)

    @value.setter
    def value(self, value: object) -> None:
        table, label, value_type = _table_of(self), f"{self.__class__.__name__}.value", value.__class__
        column = table.checked_column(label, value_type)
        table.check_value(label, column, value, stored=True)
        table.write(self, column, value)


class PlainVerticalValue(_KeyedRow):
    """A mixin for rows with a key and a value whose type is always the same: the plain variant.

    Mix it in before the declarative base, and map one `value_column`. The mixin adds ``key``, a part of the primary key
    unless you map it yourself. The table gets an index over key and value and one over the value alone.

    Raises:
        MappingError: While the class is mapped, if it has not exactly one value column.
    """

    if not TYPE_CHECKING:

        @mixin_attr
        def _sqla_vertical_value(cls):
            _listen(cls, _complete_plain)
            return


def _table_of(row: object) -> ValueTable:
    found = value_table(type(row))
    if found is None:
        raise StateError(f"{type(row).__name__!r} is not mapped; map it to a table before you use its values")
    return found


# -- while the class is mapped -----------------------------------------------------------------------


def _listen(cls: MappedClass, complete: Callable[[AnyMapper], None]) -> None:
    on_mapped(cls, constructed=complete)
    # SQLAlchemy does not evaluate attributes of a mixin again for subclasses of a mapped class.
    event.listen(cls, "after_mapper_constructed", _refuse_more, propagate=True)


def _complete_typed(mapper: AnyMapper) -> None:
    _complete(mapper, "VerticalValue")


def _complete_plain(mapper: AnyMapper) -> None:
    _complete(mapper, "PlainVerticalValue")


def _complete(mapper: AnyMapper, mixin: str) -> None:
    """Keep how the values of a class are stored, and give its table indexes and the CHECK."""
    cls = mapper.class_
    options = options_of(cls)
    marked = _take_marked(mapper)
    typed = mixin == "VerticalValue"
    table, key = _text_column(mapper, mixin, "key")
    type_ = _text_column(mapper, mixin, "type")[1] if typed else None
    if type_ is not None and not type_.nullable:
        raise MappingError(
            f"{cls.__name__}.type is NOT NULL, and NULL is the type of a value that is None; make it nullable"
        )
    columns = tuple(
        ValueColumn(each.attribute, each.arguments.python_type, each.arguments.type_name, each.column.type)
        for each in marked
    )
    _check_columns(cls, mixin, columns)
    complete_table(table, key, type_, marked, any_value_index=options.any_value_index)
    key_length: int | None = getattr(key.type, "length", None)
    set_value_table(cls, ValueTable(cls.__name__, columns, "type" if typed else None, key_length))


def _refuse_more(mapper: AnyMapper, cls: MappedClass) -> None:
    if mapper.inherits is not None and _take_marked(mapper):
        raise MappingError(
            f"{cls.__name__!r} adds value columns to those of {mapper.inherits.class_.__name__!r}; "
            "map all of them on the class that makes the table"
        )


def _text_column(mapper: AnyMapper, mixin: str, name: str) -> tuple[Table, AnyColumn]:
    """Return the column of the mixin, or that of the user's in its place, and its table."""
    column: object = mapper.columns.get(name)
    if isinstance(column, Column):
        found: AnyColumn = column
        if is_a(found.table, Table) and _is_text(found.type):
            return found.table, found
    raise MappingError(
        f"{mixin} on {mapper.class_.__name__!r} needs a column for texts as {name!r}, and has {column!r}; "
        f"leave it to the mixin, or write {name}: Mapped[str] = mapped_column(...)"
    )


def _is_text(sql_type: AnyType) -> bool:
    try:
        return sql_type.python_type is str
    except NotImplementedError:  # a type of the user's that does not say
        return True


def _take_marked(mapper: AnyMapper) -> list[MarkedColumn]:
    """Return the columns that `value_column` has made, and take its arguments off them."""
    found: list[MarkedColumn] = []
    for attribute, column in mapper.columns.items():
        # A column_property() is an expression and no column of a table, other than the types say.
        arguments = take_arguments(column) if is_a(column, Column) else None
        if arguments is not None:
            found.append(MarkedColumn(attribute, column, arguments))
    return found


def _check_columns(cls: MappedClass, mixin: str, columns: tuple[ValueColumn, ...]) -> None:
    if not columns or (mixin == "PlainVerticalValue" and len(columns) > 1):
        wanted = "at least one value column" if mixin == "VerticalValue" else "exactly one value column"
        raise MappingError(
            f"{mixin} on {cls.__name__!r} needs {wanted} and has {len(columns)}; "
            "map one as in int_value: Mapped[int | None] = value_column(int)"
        )
    types: dict[type[object], str] = {}
    names: dict[str, str] = {}
    for column in columns:
        if (other := types.setdefault(column.python_type, column.attribute)) != column.attribute:
            raise MappingError(
                f"{cls.__name__!r} has two value columns for {column.python_type.__name__}, {other!r} and "
                f"{column.attribute!r}; keep one"
            )
        if (other := names.setdefault(column.type_name, column.attribute)) != column.attribute:
            raise MappingError(
                f"{cls.__name__!r} has two value columns with the type name {column.type_name!r}, {other!r} and "
                f"{column.attribute!r}; give one of them another with type_name="
            )
        if len(column.type_name) > _TYPE_LENGTH:
            raise MappingError(
                f"{cls.__name__}.{column.attribute} has the type name {column.type_name!r}, which is longer than "
                f"{_TYPE_LENGTH} characters; give it a shorter one with type_name="
            )
