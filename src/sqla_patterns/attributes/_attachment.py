"""`AttributeAttachment`: the handle that takes listeners off the attributes of classes again."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Protocol, Self, cast

from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, MappedAsDataclass

from .._typing import MappedClass
from ..exceptions import InvalidArgumentError

_ATTACHED: Final = "__sqla_attribute_listeners__"
_SHARED: Final = (object, DeclarativeBase, DeclarativeBaseNoMeta, MappedAsDataclass)
#: Py_TPFLAGS_IMMUTABLETYPE, of int and its like, to which no attribute can be added.
_IMMUTABLE: Final = 1 << 8


class Attachable(Protocol):
    """Listeners that are attached to a class and taken off together; two that are equal are the same."""

    @property
    def target(self) -> MappedClass: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class AttributeAttachment:
    """A handle that detaches what `enable_active_defaults` or `listen_for_changes` has attached.

    Attaching the same twice to one class is one attachment. As a context manager the handle takes off, on leaving, only
    what it has attached itself: an inner ``with`` leaves in place what an outer one has attached. Entering it after
    `detach` attaches it again.
    """

    def __init__(self, attachable: Attachable) -> None:
        self.target: Final = attachable.target
        self._attachable: Final = attachable
        self._depth = 0
        self._mine = self._start()

    @property
    def attached(self) -> bool:
        """True if the listeners are in place, whoever attached them."""
        return self._attachable in _attached(self.target)

    def detach(self) -> None:
        """Take the listeners off the class, whoever attached them; do nothing if none are there."""
        self._mine = False
        found = _attached(self.target)
        for each in found:
            if each == self._attachable:
                _set_attached(self.target, [other for other in found if other is not each])
                each.stop()

    def __enter__(self) -> Self:
        self._mine = self._start() or self._mine
        self._depth += 1
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth and self._mine:
            self.detach()

    def __repr__(self) -> str:
        state = "attached" if self.attached else "detached"
        return f"<AttributeAttachment of {self._attachable!r} to {self.target!r}, {state}>"

    def _start(self) -> bool:
        if self.attached:
            return False
        self._attachable.start()
        _set_attached(self.target, [*_attached(self.target), self._attachable])
        return True


def check_target(target: object, function: str) -> None:
    """Raise if `target` is not a class whose mapped subclasses are the user's to listen to.

    Raises:
        InvalidArgumentError: It is no class, or one that everybody shares.
    """
    if not isinstance(target, type):
        raise InvalidArgumentError(
            f"{function}() needs a class and was given {target!r}; pass a mapped class, a mixin or a declarative base"
        )
    if target in _SHARED or target.__flags__ & _IMMUTABLE:
        raise InvalidArgumentError(
            f"{function}() was given {target.__name__}, from which mapped classes of all libraries in the process may "
            "derive; pass your own declarative base"
        )


def _attached(target: MappedClass) -> list[Attachable]:
    return cast("list[Attachable]", vars(target).get(_ATTACHED, []))


def _set_attached(target: MappedClass, attached: list[Attachable]) -> None:
    # Metaclasses of declarative bases and of pydantic have their own __setattr__, for mapped attributes.
    if attached:
        type.__setattr__(target, _ATTACHED, attached)
    else:
        type.__delattr__(target, _ATTACHED)
