"""`SetView`: what a proxy of a set shows on an object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet, Set
from typing import Any, TypeVar

from ._view import View

T = TypeVar("T")


class SetView(View, MutableSet[object]):
    """The members of a set of association objects."""

    kind = MutableSet

    @classmethod
    def _from_iterable(cls, it: Iterable[T]) -> set[T]:
        return set(it)

    # -- reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[object]:
        return map(self._endpoint.load_member, self._rows)

    def __contains__(self, value: object) -> bool:
        return any(self._endpoint.is_same(found, value) for found in map(self._endpoint.find_member, self._rows))

    def copy(self) -> set[object]:
        return set(self)

    def union(self, *others: Iterable[object]) -> set[object]:
        return set(self).union(*others)

    def intersection(self, *others: Iterable[object]) -> set[object]:
        return set(self).intersection(*others)

    def difference(self, *others: Iterable[object]) -> set[object]:
        return set(self).difference(*others)

    def symmetric_difference(self, other: Iterable[object]) -> set[object]:
        return set(self).symmetric_difference(other)

    def issubset(self, other: Iterable[object]) -> bool:
        return set(self).issubset(other)

    def issuperset(self, other: Iterable[object]) -> bool:
        return set(self).issuperset(other)

    def __eq__(self, other: object) -> bool:
        return set(self) == (set(other) if isinstance(other, SetView) else other)

    __hash__ = View.__hash__

    def __repr__(self) -> str:
        return repr(set(self))

    # -- writing ---------------------------------------------------------------------------------

    def _replace(self, values: object) -> None:
        members = self._endpoint.check_members(values)
        before = list(self._rows)
        wanted = self._endpoint.group_rows(())
        for member in members:
            wanted[member].append(member)
        had = self._endpoint.group_rows(before if self._endpoint.diff else ())
        new = [member for member, found in list(wanted.items()) if found and not had[member]]
        kept = {id(row) for member, found in wanted.items() if found for row in had[member]}
        leaving = [row for row in before if id(row) not in kept]
        self._endpoint.detach_views(leaving)
        made = self._create_rows(new)
        rows = self._rows
        for row in leaving:
            rows.remove(row)
        for row in made:
            rows.add(row)

    def update(self, *others: Iterable[object]) -> None:
        members = [member for other in others for member in self._endpoint.check_members(other)]
        had = self._endpoint.group_rows(self._rows)
        new: list[object] = []
        for member in members:
            if not (found := had[member]):
                found.append(member)
                new.append(member)
        for row in self._create_rows(new):
            self._rows.add(row)

    def add(self, value: object) -> None:
        self.update([value])

    def discard(self, value: object) -> None:
        self._remove(self._endpoint.group_rows(self._rows)[value])

    def pop(self) -> object:
        rows = self._rows
        if not rows:
            raise KeyError(f"{self._endpoint.label} is empty")
        row = next(iter(rows))
        member = self._endpoint.copy_live(self._endpoint.load_member(row))
        self._remove([row])
        return member

    def clear(self) -> None:
        self._endpoint.detach_views(self._rows)
        self._rows.clear()

    def _remove(self, leaving: list[object]) -> None:
        rows = self._rows
        self._endpoint.detach_views(leaving)
        for row in leaving:
            rows.remove(row)

    def difference_update(self, *others: Iterable[object]) -> None:
        had = self._endpoint.group_rows(self._rows)
        leaving = [row for member in [member for other in others for member in other] for row in had[member]]
        self._remove(list({id(row): row for row in leaving}.values()))

    def intersection_update(self, *others: Iterable[object]) -> None:
        self._replace(self.intersection(*others))

    def symmetric_difference_update(self, other: Iterable[object]) -> None:
        self._replace(self.symmetric_difference(other))

    def __ior__(self, other: Set[object]) -> SetView:
        self.update(other)
        return self

    # The mixin's methods would read the argument, which may be a view of the same rows, while they change these.

    def __isub__(self, other: Set[Any]) -> SetView:
        self.difference_update(other)
        return self

    def __iand__(self, other: Set[Any]) -> SetView:
        self.intersection_update(other)
        return self

    def __ixor__(self, other: Set[object]) -> SetView:
        self.symmetric_difference_update(other)
        return self
