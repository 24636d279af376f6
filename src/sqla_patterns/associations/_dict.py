"""`DictView`: what a proxy of a dictionary shows on an object."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping, MutableMapping

from ._view import View


class DictView(View, MutableMapping[object, object]):
    """The members of a dictionary of association objects."""

    kind = MutableMapping

    # -- reading ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[object]:
        return iter(self._rows)

    def __reversed__(self) -> Iterator[object]:
        return iter([*self._rows][::-1])

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __getitem__(self, key: object) -> object:
        """Return the member of a key; a collection with a default makes one here, and nowhere else."""
        return self._endpoint.load_member(self._rows[key])

    def get(self, key: object, default: object = None) -> object:
        return self[key] if key in self._rows else default

    def keys(self) -> KeysView[object]:
        return KeysView(self)

    def copy(self) -> dict[object, object]:
        return dict(self)

    def __eq__(self, other: object) -> bool:
        return dict(self) == (dict(other) if isinstance(other, DictView) else other)

    def __or__(self, other: Mapping[object, object]) -> dict[object, object]:
        return dict(self) | dict(other)

    def __ror__(self, other: Mapping[object, object]) -> dict[object, object]:
        return dict(other) | dict(self)

    __hash__ = View.__hash__

    def __repr__(self) -> str:
        return repr(dict(self))

    # -- writing ---------------------------------------------------------------------------------

    def _set_members(self, members: dict[object, object], *, only: bool = False) -> None:
        """Set members by key: a key that is present keeps its association object, which is given the new member.

        Args:
            members: The new members.
            only: Whether all other keys go.
        """
        endpoint, rows = self._endpoint, self._rows
        here = dict(rows) if endpoint.diff or not only else {}
        new = {key: member for key, member in members.items() if key not in here}
        changed = {
            key: member
            for key, member in members.items()
            if key in here and not endpoint.is_same(endpoint.find_member(here[key]), member)
        }
        endpoint.detach_views(here[key] for key in changed)
        if only:
            endpoint.detach_views(row for key, row in rows.items() if key not in here or key not in members)
        made = endpoint.create_rows(self._owner, new.items())
        # An owner-aware creator may have put its row in place by setting the owner.
        if only:
            for key in [key for key in rows if key not in here and key not in new]:
                del rows[key]
            for key in [key for key in here if key not in members]:
                del rows[key]
        for key, row in zip(new, made, strict=True):
            if rows.get(key) is not row:
                rows[key] = row
        for key, member in changed.items():
            setattr(here[key], endpoint.value_attr, member)

    def _replace(self, values: object) -> None:
        self._set_members(self._endpoint.check_mapping(values), only=True)

    def update(self, other: object = (), /, **members: object) -> None:
        self._set_members(self._endpoint.check_mapping(other) | self._endpoint.check_mapping(members))

    def __setitem__(self, key: object, member: object) -> None:
        self._set_members(self._endpoint.check_mapping({key: member}))

    def setdefault(self, key: object, default: object = None) -> object:
        if key not in self._rows:
            self[key] = default
        return self[key]

    def __ior__(self, other: object) -> DictView:
        self.update(other)
        return self

    def __delitem__(self, key: object) -> None:
        rows = self._rows
        if key in rows:
            self._endpoint.detach_views([rows[key]])
        del rows[key]

    def pop(self, key: object, *default: object) -> object:
        rows = self._rows
        if key not in rows and default:
            (value,) = default
            return value
        if key not in rows:
            # Not from the rows: a collection with a default would make one.
            raise KeyError(key)
        member = self._endpoint.copy_live(self._endpoint.load_member(rows[key]))
        del self[key]
        return member

    def popitem(self) -> tuple[object, object]:
        rows = self._rows
        if not rows:
            raise KeyError(f"{self._endpoint.label} is empty")
        key = next(reversed(list(rows)))
        return key, self.pop(key)

    def clear(self) -> None:
        rows = self._rows
        self._endpoint.detach_views(rows.values())
        rows.clear()
