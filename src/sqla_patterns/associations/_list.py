"""The view of a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableSequence
from typing import Any, Final, SupportsIndex

from ..exceptions import InvalidArgumentError
from ._view import View


class ListView(View, MutableSequence[Any]):
    """The members of a list of association objects."""

    kind = MutableSequence

    # -- reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._endpoint.member(row) for row in self._rows[index]]
        return self._endpoint.member(self._rows[index])

    def __iter__(self) -> Iterator[Any]:
        return map(self._endpoint.member, self._rows)

    def __contains__(self, value: object) -> bool:
        return any(self._endpoint.same(found, value) for found in map(self._endpoint.peek, self._rows))

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        for index in range(*slice(start, stop).indices(len(rows := self._rows))):
            if self._endpoint.same(self._endpoint.peek(rows[index]), value):
                return index
        raise ValueError(f"{value!r} is not in {self._endpoint.label}")

    def count(self, value: Any) -> int:
        return sum(self._endpoint.same(found, value) for found in map(self._endpoint.peek, self._rows))

    def copy(self) -> list[Any]:
        return list(self)

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, ListView) else other)

    def __lt__(self, other: Any) -> bool:
        return list(self) < list(other)

    def __le__(self, other: Any) -> bool:
        return list(self) <= list(other)

    def __gt__(self, other: Any) -> bool:
        return list(self) > list(other)

    def __ge__(self, other: Any) -> bool:
        return list(self) >= list(other)

    def __add__(self, other: Iterable[Any]) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Iterable[Any]) -> list[Any]:
        return [*other, *self]

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        return list(self) * times

    __rmul__ = __mul__
    __hash__ = View.__hash__

    def __repr__(self) -> str:
        return repr(list(self))

    # -- writing ---------------------------------------------------------------------------------

    def _replace(self, values: Any) -> None:
        self[:] = values

    def __setitem__(self, index: Any, value: Any) -> None:
        """Put members in place; one that was in the slice already keeps its association object."""
        before = list(self._rows)
        after = list(before)
        if isinstance(index, slice):
            kept = before[index] if self._endpoint.diff else []
            members = self._endpoint.checked(value)
        else:
            kept, members = [before[index]], self._endpoint.checked([value])
        places = self._places(kept, members)
        # Placeholders first: a slice of the wrong length and a duplicate must fail before anything is made.
        if isinstance(index, slice):
            after[index] = places
        else:
            after[index] = places[0]
        new = [each.member for each in places if isinstance(each, _Place)]
        self._endpoint.refuse_duplicates((row for row in after if not isinstance(row, _Place)), new)
        made = iter(self._create(new))
        after = [next(made) if isinstance(each, _Place) else each for each in after]
        if [*map(id, after)] != [*map(id, before)]:
            self._arrange(after)

    def _places(self, rows: list[Any], members: list[Any]) -> list[Any]:
        """The row that each member had, or a place for a new one."""
        endpoint = self._endpoint
        wanted, had = endpoint.rows_by_member(()), endpoint.rows_by_member(rows)
        for member in members:
            wanted[member].append(member)
        for member, found in had.items():
            if 0 < len(wanted[member]) < len(found):
                raise InvalidArgumentError(
                    f"{endpoint.label} has {member!r} {len(found)} times and was assigned it {len(wanted[member])} times, "
                    f"which does not say whose {endpoint.row_class.__name__} goes; remove that from {endpoint.relationship!r}"
                )
        return [found.pop(0) if (found := had[member]) else _Place(member) for member in members]

    def _arrange(self, rows: list[Any]) -> None:
        """Make the collection hold these rows in this order; those that stay fire no event."""
        collection: Any = self._rows
        if not callable(getattr(collection, "sort", None)):
            setattr(self._owner, self._endpoint.relationship, rows)
            return
        # In place, by index. Assigning the relationship fires two "remove" events a row where there is a back reference, and
        # looks for the row by equality, for which a dataclass loads what it refers to.
        places = {id(row): place for place, row in enumerate(rows)}
        for index in reversed(range(len(collection))):
            if id(collection[index]) not in places:
                del collection[index]
        present = {id(row) for row in collection}
        for row in rows:
            if id(row) not in present:
                collection.append(row)

        def place(row: Any) -> int:
            return places[id(row)]

        collection.sort(key=place)  # no event for this either
        reorder = getattr(collection, "reorder", None)  # of an ordering list
        if callable(reorder):
            reorder()

    def __delitem__(self, index: Any) -> None:
        del self._rows[index]

    def insert(self, index: int, value: Any) -> None:
        if index >= len(self._rows):
            self.append(value)
        else:
            self[index:index] = [value]

    def append(self, value: Any) -> None:
        self.extend([value])

    def extend(self, values: Iterable[Any]) -> None:
        rows, members = self._rows, self._endpoint.checked(values)
        self._endpoint.refuse_duplicates(rows, members)
        made = self._create(members)
        # An owner-aware creator may have added them by setting the owner; then they are the last ones.
        present = {id(row) for row in rows[len(rows) - len(made) :]} if self._endpoint.takes_owner else set[int]()
        for row in made:
            if id(row) not in present:
                rows.append(row)

    def clear(self) -> None:
        del self._rows[:]

    def reverse(self) -> None:
        self._arrange(list(self._rows)[::-1])

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        member = self._endpoint.member
        self._arrange(
            sorted(self._rows, key=lambda row: member(row) if key is None else key(member(row)), reverse=reverse)
        )


class _Place:
    """Where an association object will stand that is not made yet."""

    def __init__(self, member: Any) -> None:
        self.member: Final = member
