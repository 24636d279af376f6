"""What is known of a `VerticalAttributes` on one class: its relationship, and which keys and values it accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final, cast

from sqlalchemy import Column, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.orm.attributes import History, get_history, set_attribute
from sqlalchemy.orm.base import PassiveFlag

from .._sqlalchemy import state_of
from .._typing import AnyMapper, AnyRelationship, MappedClass, MappedObject
from ..exceptions import DuplicateKeyError, InvalidArgumentError, KeyMismatchError, MappingError
from ._errors import MissingKeyError, UnknownKeyError, UnsupportedValueError
from ._inspection import is_a, is_expression, short
from ._schema import ANY_TYPE, VerticalSchema
from ._value_column import ValueColumn, text_fault
from ._value_table import ValueTable, value_table

_WITH_PENDING: Final = PassiveFlag.PASSIVE_NO_INITIALIZE | PassiveFlag.INCLUDE_PENDING_MUTATIONS


@dataclass(frozen=True)
class Shape:
    """How a `VerticalAttributes` works on one class.

    Attributes:
        label: ``Animal.attrs``, for messages.
        relationship: The name of the relationship to the rows.
        row_class: The class of the rows.
        table: How that class stores values.
        schema: What the user says about keys and types, or None.
    """

    label: str
    relationship: str
    row_class: MappedClass
    table: ValueTable
    schema: VerticalSchema | None

    # -- rows ----------------------------------------------------------------------------------------

    def history(self, owner: object) -> History:
        """Return what is added to the rows of an object and removed from them; nothing is loaded."""
        # A row that was given its owner by way of a backref waits beside a collection that is not loaded.
        return get_history(owner, self.relationship, _WITH_PENDING)

    def new_row(self, key: str) -> MappedObject:
        """Return a new row, which belongs to no object yet.

        Raises:
            MappingError: The class of the rows cannot be called without arguments.
        """
        try:
            row = self.row_class()
        except TypeError as error:
            raise MappingError(
                f"{self.label} makes rows by calling {self.row_class.__name__}(), which fails: {error}; give the "
                "arguments of its __init__ defaults, or on a dataclass init=False"
            ) from error
        set_attribute(row, "key", key)
        return row

    # -- keys and values -----------------------------------------------------------------------------

    def checked_mapping(self, values: object) -> dict[str, object]:
        """Return a dictionary with what was given as a mapping or as pairs.

        Raises:
            InvalidArgumentError: It is neither.
            DuplicateKeyError: Pairs have one key twice.
        """
        if is_a(values, Mapping) or hasattr(values, "keys"):
            return dict(cast("Mapping[str, object]", values))
        try:
            pairs = [(key, value) for key, value in cast("Iterable[tuple[str, object]]", values)]
            found = dict(pairs)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(
                f"{self.label} takes a mapping or pairs of key and value, and {short(values)} is neither; give a "
                "dictionary"
            ) from error
        if len(found) < len(pairs):
            twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
            raise DuplicateKeyError(f"{self.label} was given two values for the key {twice!r}; give one")
        return found

    def checked_key(self, key: object) -> str:
        """Return a key as a plain text.

        Raises:
            UnknownKeyError: It cannot be a key, or the schema does not have it.
        """
        if not isinstance(key, str):
            raise UnknownKeyError(f"{self.label} has keys of type str, and was given {key!r}; give a str")
        # A member of a StrEnum is a text that drivers write by its name.
        plain = key if type(key) is str else str.__str__(key)
        fault = text_fault(plain, self.table.key_length)
        if plain.endswith(" "):
            fault = "ends with a space, which MariaDB ignores when it compares"
        if fault is not None:
            raise UnknownKeyError(f"{self.label} cannot have the key {short(plain)}, which {fault}; choose another")
        if self.schema is not None and plain not in self.schema.types:
            known = ", ".join(map(repr, self.schema.types)) or "none"
            raise UnknownKeyError(
                f"{self.label} has no key {plain!r} in its schema, which has {known}; add it there, or correct it"
            )
        return plain

    def checked_column(self, key: str, value: object, *, stored: bool = True) -> ValueColumn | None:
        """Return the column for a value, which is None for None.

        Args:
            key: A key that has been checked.
            value: The value.
            stored: Whether it is to be stored, rather than compared with.

        Raises:
            UnsupportedValueError: There is none, or the schema wants another type.
            UnstorableValueError: The column could not hold it.
        """
        if is_expression(value):
            raise UnsupportedValueError(
                f"{self.label}[{key!r}] takes a value, and was given the SQL expression {value!s}; execute it first"
            )
        value_type: type[object] = value.__class__
        column = self._column(key, value_type)
        self.table.check_value(f"{self.label}[{key!r}]", column, value, stored=stored)
        return column

    def column_for_type(self, key: str, python_type: type[object]) -> ValueColumn:
        """Return the column for values of a type.

        Raises:
            UnsupportedValueError: There is none, or the schema wants another type.
        """
        column = self._column(key, python_type)
        if column is None:
            raise UnsupportedValueError(f"{self.label}[{key!r}] has no column for None; give the type of the values")
        return column

    def _column(self, key: str, value_type: type[object]) -> ValueColumn | None:
        allowed = ANY_TYPE if self.schema is None else self.schema.types.get(key, ANY_TYPE)
        column = self.table.checked_column(f"{self.label}[{key!r}]", value_type)
        needed = NoneType if column is None else column.python_type
        if allowed != ANY_TYPE and needed not in allowed:
            wanted = " | ".join(sorted("None" if each is NoneType else each.__name__ for each in allowed))
            raise UnsupportedValueError(
                f"{self.label}[{key!r}] cannot be of type {value_type.__name__}: the schema says {wanted}; "
                "convert the value, or change the schema"
            )
        return column

    # -- before a flush ------------------------------------------------------------------------------

    def check_owner(self, owner: object) -> None:
        """Check the rows that a flush is about to write for one object.

        Raises:
            MissingKeyError: A key that the schema requires is missing from a new object, or was removed.
            KeyMismatchError: A row was put into the relationship under a key that is not its own.
            UnknownKeyError: A row was put there whose key is not in the schema.
            UnsupportedValueError: A row was put there whose value has another type than the schema says.
            MappingError: The relationship is a dictionary by another attribute than the key.
        """
        history = self.history(owner)
        is_new = not state_of(owner).has_identity
        added = {id(row) for row in history.added}
        has_required = self.schema is not None and bool(self.schema.required)
        if not added and not (has_required and (is_new or history.deleted)):
            return
        if not has_required and self.relationship not in state_of(owner).dict:
            # The other rows need not be loaded for the check of those that were added.
            for row in history.added:
                self._check_row(row.key, row)
            return
        rows: Mapping[str, MappedObject] = getattr(owner, self.relationship)
        key_of: Callable[[object], object] | None = getattr(rows, "keyfunc", None)
        for key, row in rows.items():
            if id(row) in added:
                self._check_row(key, row)
                if key_of is not None and key_of(row) != key:
                    raise MappingError(
                        f"{self.label} goes through {self.relationship!r}, which is a dictionary by another attribute "
                        'than the key; map it with collection_class=attribute_keyed_dict("key")'
                    )
        missing = sorted(self.schema.required.difference(rows)) if self.schema is not None else []
        if missing:
            raise MissingKeyError(
                f"{_name_of(owner)} has no {', '.join(map(repr, missing))} in {self.label}, which its schema requires; "
                "set it before the flush"
            )

    def _check_row(self, key: str, row: MappedObject) -> None:
        if row.key != key:
            raise KeyMismatchError(
                f"{self.label} has a {type(row).__name__} under {key!r}, and its own key is {row.key!r}; put it there "
                f"under that, or write {self.label.rpartition('.')[2]}[{key!r}] = value"
            )
        if self.schema is not None:
            self.checked_column(self.checked_key(key), self.table.read(row))


def _name_of(instance: object) -> str:
    # Not by its repr(), which may load what it shows, as that of a dataclass does.
    identity = state_of(instance).identity
    name = type(instance).__name__
    return f"A new {name}" if identity is None else f"{name} {', '.join(map(repr, identity))}"


# -- how a shape is found ------------------------------------------------------------------------------


def resolve(mapper: AnyMapper, name: str, relationship: str, schema: VerticalSchema | None) -> Shape:
    """Return how a `VerticalAttributes` works on a class, after checking its relationship.

    Args:
        mapper: The mapper of the class.
        name: The name of the attribute, for messages.
        relationship: The name of the relationship to the rows.
        schema: What the user says about keys and types.

    Raises:
        MappingError: The relationship does not refer to a class of values, or is mapped so that rows would be lost or
            duplicated.
    """
    label = f"{mapper.class_.__name__}.{name}"
    prop = mapper.relationships.get(relationship)
    table = None if prop is None else value_table(prop.mapper.class_)
    if prop is None or table is None:
        raise MappingError(
            f"{label} goes through {relationship!r}, which is no relationship of {mapper.class_.__name__} to a class "
            "with VerticalValue or PlainVerticalValue; name one"
        )
    _check_collection(label, prop)
    if not prop.cascade.delete_orphan or not prop.cascade.delete:
        raise MappingError(
            f"{label} goes through {relationship!r}, whose rows would stay when a key is deleted; map it with "
            'cascade="all, delete-orphan"'
        )
    if not _is_unique(prop):
        raise MappingError(
            f"{label} goes through {relationship!r}, whose table may have a key twice for one "
            f"{mapper.class_.__name__}; make the foreign key a part of the primary key, or put a "
            "UniqueConstraint over it and the key"
        )
    for key, wanted in schema.types.items() if schema is not None else ():
        for python_type in wanted - {NoneType}:
            if not any(column.python_type is python_type for column in table.columns):
                raise MappingError(
                    f"The schema of {label} says that {key!r} is a {python_type.__name__}, for which "
                    f"{table.class_name} has no value column; "
                    f"map a value_column({python_type.__name__})"
                )
    return Shape(label, relationship, prop.mapper.class_, table, schema)


def _check_collection(label: str, prop: AnyRelationship) -> None:
    make = cast("Callable[[], object] | None", cast("Any", prop).collection_class)
    collection = None if make is None else make()
    if not prop.uselist or not is_a(collection, Mapping) or prop.lazy in ("dynamic", "write_only"):
        raise MappingError(
            f"{label} goes through {prop.key!r}, which is no dictionary; map it with "
            'collection_class=attribute_keyed_dict("key")'
        )


def _is_unique(prop: AnyRelationship) -> bool:
    """Return whether a primary key, unique constraint or index keeps the table from having a key of an owner twice."""
    table = prop.mapper.local_table
    if not isinstance(table, Table):
        return False
    owner = {column for column in prop.remote_side if isinstance(column, Column) and column.table is table}
    wanted = {*owner, prop.mapper.columns["key"]}
    keys = [
        *(each.columns for each in table.constraints if isinstance(each, PrimaryKeyConstraint | UniqueConstraint)),
        *(index.columns for index in table.indexes if index.unique),
    ]
    return any(set(each) and set(each) <= wanted for each in keys)
