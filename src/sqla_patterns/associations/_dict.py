"""The view of a dictionary."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping, MutableMapping
from typing import Any

from ._view import View


class DictView(View, MutableMapping[Any, Any]):
    """The members of a dictionary of association objects."""

    kind = MutableMapping

    # -- reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def __reversed__(self) -> Iterator[Any]:
        return iter([*self._rows][::-1])

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
        # An owner-aware creator may have put its row in place by setting the owner.
        if only:
            for key in [key for key in rows if key not in here and key not in new]:
                del rows[key]
            for key in [key for key in here if key not in members]:
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

    def __ior__(self, other: Any) -> DictView:  # type: ignore[misc]  # a dict's | makes a new dictionary
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
