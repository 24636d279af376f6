"""`ListView`: what a proxy of a list shows on an object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableSequence
from typing import Any, Final, SupportsIndex

from ..exceptions import InvalidArgumentError
from ._view import View


class ListView(View, MutableSequence[object]):
    """The members of a list of association objects."""

    kind = MutableSequence

    # -- reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._endpoint.load_member(row) for row in self._rows[index]]
        return self._endpoint.load_member(self._rows[index])

    def __iter__(self) -> Iterator[object]:
        return map(self._endpoint.load_member, self._rows)

    def __contains__(self, value: object) -> bool:
        return any(self._endpoint.is_same(found, value) for found in map(self._endpoint.find_member, self._rows))

    def index(self, value: object, start: int = 0, stop: int | None = None) -> int:
        for index in range(*slice(start, stop).indices(len(rows := self._rows))):
            if self._endpoint.is_same(self._endpoint.find_member(rows[index]), value):
                return index
        raise ValueError(f"{value!r} is not in {self._endpoint.label}")

    def count(self, value: object) -> int:
        return sum(self._endpoint.is_same(found, value) for found in map(self._endpoint.find_member, self._rows))

    def copy(self) -> list[object]:
        return list(self)

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, ListView) else other)

    def __lt__(self, other: Iterable[object]) -> bool:
        return list(self) < list(other)

    def __le__(self, other: Iterable[object]) -> bool:
        return list(self) <= list(other)

    def __gt__(self, other: Iterable[object]) -> bool:
        return list(self) > list(other)

    def __ge__(self, other: Iterable[object]) -> bool:
        return list(self) >= list(other)

    def __add__(self, other: Iterable[object]) -> list[object]:
        return [*self, *other]

    def __radd__(self, other: Iterable[object]) -> list[object]:
        return [*other, *self]

    def __mul__(self, times: SupportsIndex) -> list[object]:
        return list(self) * times

    __rmul__ = __mul__
    __hash__ = View.__hash__

    def __repr__(self) -> str:
        return repr(list(self))

    # -- writing ---------------------------------------------------------------------------------

    def _replace(self, values: object) -> None:
        self[:] = values

    def __setitem__(self, index: int | slice, value: object) -> None:
        """Set the members at an index or slice; one that was there already keeps its association object."""
        before = list(self._rows)
        after = list(before)
        if isinstance(index, slice):
            kept = before[index] if self._endpoint.diff else []
            members = self._endpoint.check_members(value)
        else:
            kept, members = [before[index]], self._endpoint.check_members([value])
        matched = self._match_rows(kept, members)
        # Placeholders first: a slice of the wrong length and a duplicate must fail before anything is made.
        if isinstance(index, slice):
            after[index] = matched
        else:
            after[index] = matched[0]
        new = [each.member for each in matched if isinstance(each, _Place)]
        self._endpoint.refuse_duplicates((row for row in after if not isinstance(row, _Place)), new)
        staying = {id(each) for each in after}
        self._endpoint.detach_views(row for row in before if id(row) not in staying)
        made = iter(self._create_rows(new))
        after = [next(made) if isinstance(each, _Place) else each for each in after]
        if [*map(id, after)] != [*map(id, before)]:
            self._arrange(after)

    def _match_rows(self, rows: list[object], members: list[object]) -> list[object]:
        """Return, for each member, the row that it had or a place for a new one."""
        endpoint = self._endpoint
        wanted, had = endpoint.group_rows(()), endpoint.group_rows(rows)
        for member in members:
            wanted[member].append(member)
        for member, found in had.items():
            if 0 < len(wanted[member]) < len(found):
                raise InvalidArgumentError(
                    f"{endpoint.label} has {member!r} {len(found)} times and was assigned it {len(wanted[member])} "
                    f"times, which does not say whose {endpoint.row_class.__name__} goes; remove that from "
                    f"{endpoint.relationship!r}"
                )
        return [found.pop(0) if (found := had[member]) else _Place(member) for member in members]

    def _arrange(self, rows: list[object]) -> None:
        """Make the collection hold these rows in this order; those that stay fire no event."""
        collection = self._rows
        if not callable(getattr(collection, "sort", None)):
            setattr(self._owner, self._endpoint.relationship, rows)
            return
        # In place, by index. Assigning the relationship fires two "remove" events a row where there is a back
        # reference, and looks for the row by equality, for which a dataclass loads what it refers to.
        places = {id(row): place for place, row in enumerate(rows)}
        for index in reversed(range(len(collection))):
            if id(collection[index]) not in places:
                del collection[index]
        present = {id(row) for row in collection}
        for row in rows:
            if id(row) not in present:
                collection.append(row)

        def place(row: object) -> int:
            return places[id(row)]

        collection.sort(key=place)  # no event for this either
        reorder = getattr(collection, "reorder", None)  # of an ordering list
        if callable(reorder):
            reorder()

    def __delitem__(self, index: int | slice) -> None:
        rows = self._rows
        self._endpoint.detach_views(rows[index] if isinstance(index, slice) else [rows[index]])
        del rows[index]

    def insert(self, index: int, value: object) -> None:
        if index >= len(self._rows):
            self.append(value)
        else:
            self[index:index] = [value]

    def append(self, value: object) -> None:
        self.extend([value])

    def extend(self, values: Iterable[object]) -> None:
        rows, members = self._rows, self._endpoint.check_members(values)
        self._endpoint.refuse_duplicates(rows, members)
        made = self._create_rows(members)
        # An owner-aware creator may have added them by setting the owner; then they are the last ones.
        present = {id(row) for row in rows[len(rows) - len(made) :]} if self._endpoint.takes_owner else set[int]()
        for row in made:
            if id(row) not in present:
                rows.append(row)

    def pop(self, index: int = -1) -> object:
        member = self._endpoint.copy_live(self[index])
        del self[index]
        return member

    def clear(self) -> None:
        del self[:]

    def reverse(self) -> None:
        self._arrange(list(self._rows)[::-1])

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        load_member: Any = self._endpoint.load_member
        rows: list[Any] = list(self._rows)
        rows.sort(key=lambda row: load_member(row) if key is None else key(load_member(row)), reverse=reverse)
        self._arrange(rows)


class _Place:
    """The place in a list of an association object that is not made yet."""

    def __init__(self, member: object) -> None:
        self.member: Final = member
