"""What an instance shows: a list, set or dictionary of members over the association objects, which it never copies.

Objects are compared by identity and values of columns by equality, throughout. So nothing here loads a member to compare it.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Set,
)
from typing import Any, ClassVar, Final, NoReturn, Protocol, SupportsIndex, cast

from ..exceptions import InvalidArgumentError
from ._endpoint import Endpoint


class View:
    """A view of one collection of one object."""

    kind: ClassVar[type[Any]]

    def __init__(self, owner: object, endpoint: Endpoint) -> None:
        self._owner: Final = owner
        self._endpoint: Final = endpoint

    @property
    def _rows(self) -> Any:
        """The collection of association objects, loaded if need be; read anew each time, since it may be assigned anew."""
        rows = getattr(self._owner, self._endpoint.relationship)
        if not isinstance(rows, self.kind):
            raise InvalidArgumentError(
                f"{self._endpoint.label} shows a {self.kind.__name__.removeprefix('Mutable').lower()}, and "
                f"{self._endpoint.relationship!r} holds a {type(rows).__name__}; "
                "use proxied_list, proxied_set or proxied_dict by the kind of the relationship's collection"
            )
        return rows

    def _is_of(self, values: object) -> bool:
        return isinstance(values, View) and values._owner is self._owner and values._endpoint is self._endpoint

    def reassign(self, values: Any) -> None:
        """Take what was assigned to the attribute; ``x.items += [...]`` assigns the view itself, which is in place already."""
        if not self._is_of(values):
            self._replace(values)

    def _replace(self, values: Any) -> None:
        raise NotImplementedError

    def _create(self, members: Iterable[Any]) -> list[Any]:
        return self._endpoint.create(self._owner, ((member,) for member in members))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return getattr, (self._owner, self._endpoint.label.rpartition(".")[2])

    def __hash__(self) -> NoReturn:
        raise TypeError(f"unhashable: {self._endpoint.label} is a collection that changes")


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
        self._refuse_duplicates(after)
        new = [each.member for each in places if isinstance(each, _Place)]
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
        left = {id(rows): iter(rows) for _, rows in had.items()}
        return [next(left.get(id(had[member]), iter(())), _Place(member)) for member in members]

    def _refuse_duplicates(self, rows: list[Any]) -> None:
        if self._endpoint.unique:
            groups = self._endpoint.rows_by_member(())
            for row in rows:
                groups[row.member if isinstance(row, _Place) else self._endpoint.peek(row)].append(row)
            self._endpoint.refuse_duplicates(groups)

    def _arrange(self, rows: list[Any]) -> None:
        """Assign the relationship: objects that stay fire no event, and an ordering list counts anew."""
        setattr(self._owner, self._endpoint.relationship, rows)
        reorder = getattr(self._rows, "reorder", None)
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
        self._refuse_duplicates([*rows, *map(_Place, members)])
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
        self._arrange(sorted(self._rows, key=lambda row: member(row) if key is None else key(member(row)), reverse=reverse))


class _Place:
    """Where an association object will stand that is not made yet."""

    def __init__(self, member: Any) -> None:
        self.member: Final = member


class SetView(View, MutableSet[Any]):
    """The members of a set of association objects."""

    kind = MutableSet

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:  # type: ignore[override]
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

    def __ior__(self, other: Set[Any]) -> SetView:  # type: ignore[override, misc]
        self.update(other)
        return self




class DictView(View, MutableMapping[Any, Any]):
    """The members of a dictionary of association objects."""

    kind = MutableMapping

    # -- reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __getitem__(self, key: Any) -> Any:
        """Return the member; a collection with a default makes one here, and nowhere else."""
        return self._endpoint.member(self._rows[key])

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self._rows else default

    def keys(self) -> KeysView[Any]:
        return KeysView(self)

    def copy(self) -> dict[Any, Any]:
        return dict(self)

    def __eq__(self, other: object) -> bool:
        return dict(self) == (dict(other) if isinstance(other, DictView) else other)

    def __or__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(self) | dict(other)

    def __ror__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(other) | dict(self)

    __hash__ = View.__hash__

    def __repr__(self) -> str:
        return repr(dict(self))

    # -- writing ---------------------------------------------------------------------------------

    def _put(self, members: dict[Any, Any], *, only: bool = False) -> None:
        """Set members by key: a key that is here keeps its association object, which is given the new member."""
        endpoint, rows = self._endpoint, self._rows
        here = dict(rows) if endpoint.diff or not only else {}
        new = {key: member for key, member in members.items() if key not in here}
        made = endpoint.create(self._owner, new.items())
        if only:
            for key in [key for key in rows if key not in members or key not in here]:
                if rows[key] not in made:
                    del rows[key]
        for key, row in zip(new, made, strict=True):
            if rows.get(key) is not row:
                rows[key] = row
        for key, member in members.items():
            if key in here and not endpoint.same(endpoint.peek(here[key]), member):
                setattr(here[key], endpoint.value_attr, member)

    def _replace(self, values: Any) -> None:
        self._put(self._endpoint.checked_mapping(values), only=True)

    def update(self, other: Any = (), /, **members: Any) -> None:
        self._put(self._endpoint.checked_mapping(other) | self._endpoint.checked_mapping(members))

    def __setitem__(self, key: Any, member: Any) -> None:
        self._put(self._endpoint.checked_mapping({key: member}))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self._rows:
            self[key] = default
        return self[key]

    def __ior__(self, other: Any) -> DictView:
        self.update(other)
        return self

    def __delitem__(self, key: Any) -> None:
        del self._rows[key]

    def pop(self, key: Any, *default: Any) -> Any:
        if key in self._rows or not default:
            return self._endpoint.member(self._rows.pop(key))
        (value,) = default
        return value

    def popitem(self) -> tuple[Any, Any]:
        key, row = self._rows.popitem()
        return key, self._endpoint.member(row)

    def clear(self) -> None:
        self._rows.clear()
