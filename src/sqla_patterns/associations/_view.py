"""`View`: the base of the list, set and dictionary of members that a proxy shows on an object.

A view holds no members. It reads and changes the collection of association objects each time that it is used. Members
that are objects are compared by identity, and values of columns by equality, so that no member is loaded to compare it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, NoReturn

from ..exceptions import InvalidArgumentError, StateError
from ._endpoint import Endpoint, Nested


class View(Nested):
    """A view of one collection of one object."""

    kind: ClassVar[type[Any]]

    def __init__(self, owner: object, endpoint: Endpoint) -> None:
        self._owner: Final = owner
        self._endpoint: Final = endpoint

    @property
    def _rows(self) -> Any:
        """Return the collection of association objects, loaded if need be; it may be reassigned, so it is not kept."""
        if self.nested_state is not None and self.nested_state.former_members is not None:
            raise StateError(
                f"This view of {self._endpoint.label} shows members that were replaced or removed since it was read, "
                f"{self.nested_state.former_members!r}; read the attribute again, or copy the members before"
            )
        rows = getattr(self._owner, self._endpoint.relationship)
        if not isinstance(rows, self.kind):
            raise InvalidArgumentError(
                f"{self._endpoint.label} shows a {self.kind.__name__.removeprefix('Mutable').lower()}, and "
                f"{self._endpoint.relationship!r} holds a {type(rows).__name__}; "
                "use proxied_list, proxied_set or proxied_dict by the kind of the relationship's collection"
            )
        return rows

    def _is_view_of_same(self, values: object) -> bool:
        return isinstance(values, View) and values._owner is self._owner and values._endpoint is self._endpoint

    def reassign(self, values: object) -> None:
        """Replace the members by what was assigned to the attribute.

        ``x.items += [...]`` assigns the view itself, which has the members already.
        """
        if not self._is_view_of_same(values):
            self._replace(values)

    def _replace(self, values: object) -> None:
        raise NotImplementedError

    def _create_rows(self, members: Iterable[object]) -> list[object]:
        return self._endpoint.create_rows(self._owner, ((member,) for member in members))

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return getattr, (self._owner, self._endpoint.label.rpartition(".")[2])

    def __hash__(self) -> NoReturn:
        raise TypeError(f"unhashable: {self._endpoint.label} is a collection that changes")
