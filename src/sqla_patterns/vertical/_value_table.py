"""How the values of a mapped class are stored: its value columns, and how a row is read and written."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import Final

from sqlalchemy.orm.attributes import flag_modified, set_attribute

from .._sqlalchemy import state_of
from .._typing import MappedObject
from ..exceptions import StateError
from ._errors import UnstorableValueError, UnsupportedValueError
from ._inspection import short
from ._value_column import ValueColumn

#: The attribute of a mapped class with its `ValueTable`.
_TABLE: Final = "__sqla_vertical_values__"


@dataclass(frozen=True)
class ValueTable:
    """The value columns of a mapped class, and how a value is put into a row and taken out of it.

    Attributes:
        class_name: The name of the class, for messages.
        columns: The value columns, in the order of the table.
        type_attribute: The attribute that says which of them holds the value; None in the plain variant.
        key_length: The length of the key column, or None if it has no limit.
    """

    class_name: str
    columns: tuple[ValueColumn, ...]
    type_attribute: str | None
    key_length: int | None

    def column_for(self, value_type: type[object]) -> ValueColumn | None:
        """Return the column for values of a type, the nearest if it has several base classes; None if there is none."""
        for base in value_type.__mro__:
            for column in self.columns:
                if column.accepts(value_type, base):
                    return column
        return None

    def checked_column(self, label: str, value_type: type[object]) -> ValueColumn | None:
        """Return the column for values of a type, which is None for None.

        Args:
            label: What the value is for, for the message.
            value_type: The type.

        Raises:
            UnsupportedValueError: There is none.
        """
        if value_type is NoneType:
            return None
        column = self.column_for(value_type)
        if column is None:
            known = ", ".join(each.python_type.__name__ for each in self.columns)
            raise UnsupportedValueError(
                f"{label} cannot be of type {value_type.__name__}: {self.class_name} has value columns for {known}; "
                f"convert the value, or map a value_column({value_type.__name__})"
            )
        return column

    def check_value(self, label: str, column: ValueColumn | None, value: object, *, stored: bool) -> None:
        """Raise if a column cannot hold a value.

        Args:
            label: What the value is for, for the message.
            column: The column for its type, or None if it is None.
            value: The value.
            stored: Whether it is to be stored, rather than compared with.

        Raises:
            UnstorableValueError: The column could not give the value back as it is.
        """
        fault = None if column is None else column.fault_in(value, stored=stored)
        if column is not None and fault is not None:
            raise UnstorableValueError(
                f"{label} cannot be {short(value)}, which {fault}; change the value, or the type of "
                f"{self.class_name}.{column.attribute}"
            )

    def read(self, row: MappedObject) -> object:
        """Return the value of a row.

        Raises:
            StateError: The row says that it has a type which no column of this class is for.
        """
        if self.type_attribute is None:
            return getattr(row, self.columns[0].attribute)
        type_name: str | None = getattr(row, self.type_attribute)
        return None if type_name is None else getattr(row, self.column_named(type_name).attribute)

    def is_in(self, row: MappedObject, column: ValueColumn | None) -> bool:
        """Return whether the value of a row is in a column; of one that is None, whether the column is None."""
        if self.type_attribute is None:
            return True
        return bool(getattr(row, self.type_attribute) == (None if column is None else column.type_name))

    def column_named(self, type_name: str) -> ValueColumn:
        """Return the column that a ``type`` means.

        Raises:
            StateError: There is none.
        """
        for column in self.columns:
            if column.type_name == type_name:
                return column
        raise StateError(
            f"A row of {self.class_name} holds a value of type {type_name!r}, for which the class has no column; "
            f"map a value_column(..., type_name={type_name!r})"
        )

    def write(self, row: MappedObject, column: ValueColumn | None, value: object) -> None:
        """Put a value into a row: its column and the type are set, the other columns are cleared.

        Args:
            row: The row, new or persistent.
            column: The column for the value, or None if the value is None.
            value: The value.
        """
        new: dict[str, object] = {each.attribute: value if each is column else None for each in self.columns}
        if self.type_attribute is not None:
            new[self.type_attribute] = None if column is None else column.type_name
        persistent = state_of(row).has_identity
        for attribute, each in new.items():
            # Not setattr(), which SQLModel and pydantic refuse for what is no field of theirs.
            set_attribute(row, attribute, each)
            if persistent:
                # All columns go into every UPDATE, so that changes of values of all types are one statement for all
                # rows.
                flag_modified(row, attribute)


def set_value_table(cls: type[object], table: ValueTable) -> None:
    """Keep how the values of a mapped class are stored, on the class."""
    setattr(cls, _TABLE, table)


def value_table(cls: type[object]) -> ValueTable | None:
    """Return how the values of a class are stored, or None if it is no class of values."""
    found = getattr(cls, _TABLE, None)
    return found if isinstance(found, ValueTable) else None
