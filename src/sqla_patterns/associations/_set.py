"""The view of a set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet, Set
from typing import Any

from ._view import View


class SetView(View, MutableSet[Any]):
    """The members of a set of association objects."""

    kind = MutableSet

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:
        return set(it)

    # -- reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return map(self._endpoint.member, self._rows)

    def __contains__(self, value: object) -> bool:
        return any(self._endpoint.same(found, value) for found in map(self._endpoint.peek, self._rows))

    def copy(self) -> set[Any]:
        return set(self)

    def union(self, *others: Iterable[Any]) -> set[Any]:
        return set(self).union(*others)

    def intersection(self, *others: Iterable[Any]) -> set[Any]:
        return set(self).intersection(*others)

    def difference(self, *others: Iterable[Any]) -> set[Any]:
        return set(self).difference(*others)

    def symmetric_difference(self, other: Iterable[Any]) -> set[Any]:
        return set(self).symmetric_difference(other)

    def issubset(self, other: Iterable[Any]) -> bool:
        return set(self).issubset(other)

    def issuperset(self, other: Iterable[Any]) -> bool:
        return set(self).issuperset(other)

    def __eq__(self, other: object) -> bool:
        return set(self) == (set(other) if isinstance(other, SetView) else other)

    __hash__ = View.__hash__

    def __repr__(self) -> str:
        return repr(set(self))

    # -- writing ---------------------------------------------------------------------------------

    def _replace(self, values: Any) -> None:
        members = self._endpoint.checked(values)
        before = list(self._rows)
        wanted = self._endpoint.rows_by_member(())
        for member in members:
            wanted[member].append(member)
        had = self._endpoint.rows_by_member(before if self._endpoint.diff else ())
        new = [member for member, found in list(wanted.items()) if found and not had[member]]
        kept = {id(row) for member, found in wanted.items() if found for row in had[member]}
        made = self._create(new)
        rows = self._rows
        for row in before:
            if id(row) not in kept:
                rows.remove(row)
        for row in made:
            rows.add(row)

    def update(self, *others: Iterable[Any]) -> None:
        members = [member for other in others for member in self._endpoint.checked(other)]
        had = self._endpoint.rows_by_member(self._rows)
        new: list[Any] = []
        for member in members:
            if not (found := had[member]):
                found.append(member)
                new.append(member)
        for row in self._create(new):
            self._rows.add(row)

    def add(self, value: Any) -> None:
        self.update([value])

    def discard(self, value: Any) -> None:
        for row in self._endpoint.rows_by_member(self._rows)[value]:
            self._rows.remove(row)

    def pop(self) -> Any:
        return self._endpoint.member(self._rows.pop())

    def clear(self) -> None:
        self._rows.clear()

    def difference_update(self, *others: Iterable[Any]) -> None:
        had = self._endpoint.rows_by_member(self._rows)
        for member in [member for other in others for member in other]:
            while found := had[member]:
                self._rows.remove(found.pop())

    def intersection_update(self, *others: Iterable[Any]) -> None:
        self._replace(self.intersection(*others))

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        self._replace(self.symmetric_difference(other))

    def __ior__(self, other: Set[Any]) -> SetView:  # type: ignore[misc]
        self.update(other)
        return self
