"""What a `VerticalAttributes` is on an object: a dictionary that reads and writes the rows, and copies nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar, cast, overload

from sqlalchemy.orm import object_session

from .._sqlalchemy import state_of
from .._typing import MappedObject
from ._inspection import attribute_of
from ._shape import Shape
from ._value_column import ValueColumn
from ._value_table import ValueTable

T = TypeVar("T")
V = TypeVar("V")


class VerticalDict(MutableMapping[str, V]):
    """A dictionary of the values of one object, by key.

    A value is in the row of its key. Setting a key that is there changes its row, and so does setting one that was
    deleted since the last flush. Nothing is changed if anything that is given is refused.

    Reading the first key loads the rows of the object unless they are loaded, in one SELECT. Everything else is in
    memory, and written by the next flush.
    """

    def __init__(self, owner: object, shape: Shape) -> None:
        self._owner: Final = owner
        self._shape: Final = shape

    @property
    def _rows(self) -> MutableMapping[str, MappedObject]:
        # Read each time, since the user may assign the relationship.
        return cast("MutableMapping[str, MappedObject]", getattr(self._owner, self._shape.relationship))

    # -- reading -------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> V:
        """Return the value.

        Raises:
            KeyError: There is no such key.
        """
        return cast("V", self._shape.table.read(self._rows[key]))

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __reversed__(self) -> Iterator[str]:
        return iter([*self._rows][::-1])

    def __len__(self) -> int:
        return len(self._rows)

    def copy(self) -> dict[str, V]:
        """Return the values in a dictionary."""
        return dict(self)

    def __or__(self, other: Mapping[str, T]) -> dict[str, V | T]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, T]) -> dict[str, V | T]:
        return {**other, **self}

    def __hash__(self) -> NoReturn:
        raise TypeError(f"unhashable: {self._shape.label} is a dictionary that changes")

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, str]]:
        # By way of the attribute, so that a pickle holds nothing but the object.
        return getattr, (self._owner, self._shape.label.rpartition(".")[2])

    # -- writing -------------------------------------------------------------------------------------

    def __setitem__(self, key: str, value: V) -> None:
        """Set a value.

        Raises:
            UnknownKeyError: The key is not in the schema, or no text that can be a key.
            UnsupportedValueError: There is no column for values of this type, or the schema says another.
            UnstorableValueError: The column could not give the value back, for instance a text that is too long.
        """
        self._put({key: value})

    def __delitem__(self, key: str) -> None:
        """Delete a value; its row goes with the next flush.

        Raises:
            KeyError: There is no such key.
        """
        del self._rows[key]

    # Overloads and no union: mypy infers dict[str, object] for a dictionary of several types where a union is expected.
    @overload  # type: ignore[override]  # the base class has overloads for keys that are not texts
    def update(self, values: Mapping[str, V], /, **more: V) -> None: ...
    @overload
    def update(self, values: Iterable[tuple[str, V]] = (), /, **more: V) -> None: ...
    def update(  # pyright: ignore[reportIncompatibleMethodOverride]  # likewise
        self, values: Mapping[str, V] | Iterable[tuple[str, V]] = (), /, **more: V
    ) -> None:
        """Set several values, or none if one of them is refused.

        Raises:
            InvalidArgumentError: What was given is no mapping and no pairs, or one of the errors of setting a value.
            DuplicateKeyError: Pairs have a key twice.
        """
        self._put(self._shape.checked_mapping(values) | more)

    @overload  # type: ignore[misc]  # | makes a dict
    def __ior__(self, other: Mapping[str, V], /) -> VerticalDict[V]: ...
    @overload
    def __ior__(self, other: Iterable[tuple[str, V]], /) -> VerticalDict[V]: ...
    def __ior__(  # type: ignore[misc]  # | makes a dict
        self, other: Mapping[str, V] | Iterable[tuple[str, V]], /
    ) -> VerticalDict[V]:
        self.update(other)
        return self

    def clear(self) -> None:
        """Delete all values."""
        self._rows.clear()

    @overload
    def replace(self, values: Mapping[str, V], /) -> None: ...
    @overload
    def replace(self, values: Iterable[tuple[str, V]], /) -> None: ...
    def replace(self, values: Mapping[str, V] | Iterable[tuple[str, V]], /) -> None:
        """Set these values and delete all others, or do nothing if one of them is refused; as assigning the attribute.

        Raises:
            InvalidArgumentError: As `update`.
            DuplicateKeyError: As `update`.
        """
        if isinstance(values, VerticalDict) and values._owner is self._owner and values._shape is self._shape:
            return  # ``animal.attrs |= {...}`` assigns the view itself, which is up to date.
        self._put(self._shape.checked_mapping(values), only=True)

    def _put(self, values: Mapping[str, object], *, only: bool = False) -> None:
        shape = self._shape
        changes = dict[str, _Change]()
        for given, value in values.items():
            key = shape.checked_key(given)
            changes[key] = _Change(shape.checked_column(key, value), value)
        rows = self._rows
        present = {key: rows[key] for key in changes if key in rows and not state_of(rows[key]).deleted}
        # A row that cannot be made must leave nothing behind: so they are made before anything is changed.
        made = self._rows_for([key for key in changes if key not in present])
        for key, row in present.items():
            _keep(row)
            if not changes[key].is_done(shape.table, row):
                shape.table.write(row, changes[key].column, changes[key].value)
        for key, row in made.items():
            shape.table.write(row, changes[key].column, changes[key].value)
        for key in [key for key in rows if only and key not in changes]:
            del rows[key]
        for key, row in made.items():
            rows[key] = row

    def _rows_for(self, keys: list[str]) -> dict[str, MappedObject]:
        """Return rows for keys that are not there: those that were removed since the last flush, and new ones."""
        # A new row in place of a removed one would be inserted before that is deleted.
        removed = self._removed_rows() if keys else {}
        return {key: removed[key] if key in removed else self._shape.new_row(key) for key in keys}

    def _removed_rows(self) -> dict[str, MappedObject]:
        if not state_of(self._owner).has_identity:
            return {}
        relationship = attribute_of(type(self._owner), self._shape.relationship)
        return {
            row.key: row
            for row in self._shape.history(self._owner).deleted
            # One that has gone to another object belongs to that.
            if state_of(row).has_identity and not relationship.hasparent(state_of(row))
        }


@dataclass(frozen=True)
class _Change:
    """A value that is to be set, and the column for it, which is None for None."""

    column: ValueColumn | None
    value: object

    def is_done(self, table: ValueTable, row: MappedObject) -> bool:
        """Return whether a row has this very value, so that it need not be written."""
        if not table.is_in(row, self.column):
            # Asked first: a row whose type has lost its column cannot be read, and may be set all the same.
            return False
        stored = table.read(row)
        return stored is None if self.column is None else self.column.is_same(stored, self.value)


def _keep(row: object) -> None:
    """Take back that a row is to be deleted, if the user has told the session so."""
    session = object_session(row)
    if session is not None and row in session.deleted:
        session.add(row)
