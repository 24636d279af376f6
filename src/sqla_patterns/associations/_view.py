"""What instances show: views of members over the association objects, which they never copy.

Objects are compared by identity and values of columns by equality, throughout. So nothing loads a member to compare it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, NoReturn

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
