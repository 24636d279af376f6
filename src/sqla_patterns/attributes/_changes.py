"""`listen_for_changes`: attach a function that is called with every change to the attributes of classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.orm import Mapper

from .._sqlalchemy import own_mapper_of
from .._typing import AnyAttribute, AnyMapper, MappedClass
from ..exceptions import InvalidArgumentError, MappingError
from ._attachment import AttributeAttachment, check_target
from ._events import AttributeChange, AttributeListener, Subscription, listener_for
from ._watch import AttributeWatch, has_events, stop_listening

T = TypeVar("T")


def listen_for_changes(
    target: type[T],
    fn: Callable[[AttributeChange[T]], object],
    *,
    keys: Collection[str] | None = None,
    active_history: bool = False,
) -> AttributeAttachment:
    """Call `fn` with each change to an attribute of `target` and of its subclasses, also of those mapped later.

    Args:
        target: A mapped class, a mixin or a declarative base.
        fn: It is called before the change is made; an exception from it prevents the change.
        keys: The names of the attributes, columns and relationships; all of them if None.
        active_history: Load an old value that is expired or was never loaded, one SELECT each. Objects of async
            sessions are not loaded, since that would have to be awaited: their `AttributeChange.old_known` is False
            then.

    Returns:
        The handle that ends it. Listening twice with the same arguments is listening once.

    Raises:
        InvalidArgumentError: `target` is no class or one that everybody shares, `fn` cannot be called or would have to
            be awaited, or `keys` is empty, a string, or names an attribute that the mapped class `target` does not
            have.
        MappingError: The same fault of `keys`, from ``configure_mappers()``, where `target` was not configured before.
    """
    check_target(target, "listen_for_changes")
    if not callable(fn):
        raise InvalidArgumentError(
            f"listen_for_changes() needs a function of one argument and was given {fn!r}; pass one"
        )
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004
        raise InvalidArgumentError(
            f"listen_for_changes() was given {fn!r}, which would have to be awaited, and attributes are set without; "
            "pass a function that is no coroutine"
        )
    listening = ClassChanges(target, Subscription(fn, active_history), None if keys is None else _names(keys))
    listening.check_keys()
    return AttributeAttachment(listening)


def _names(keys: Collection[str]) -> frozenset[str]:
    iterable = isinstance(cast("object", keys), Iterable) and not isinstance(keys, str)
    names: list[object] = list(keys) if iterable else []
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidArgumentError(
            f"listen_for_changes() was given keys={keys!r}; pass a sequence of names, or leave it out for all "
            "attributes"
        )
    return frozenset(cast("list[str]", names))


class ClassChanges:
    """The change events of a class and its subclasses, for one function; it can be attached."""

    def __init__(self, target: MappedClass, subscription: Subscription, keys: frozenset[str] | None) -> None:
        self.target: Final = target
        self._subscription: Final = subscription
        self._keys: Final = keys
        self._watch: Final = AttributeWatch(target, self._visit)
        self._listeners: Final[list[AttributeListener]] = []
        self._to_check = False

    def check_keys(self) -> None:
        """Raise if `keys` names what a target that is mapped and configured does not have.

        Raises:
            InvalidArgumentError: A name is wrong.
        """
        mapper = own_mapper_of(self.target)
        if mapper is None or self._keys is None or not mapper.configured:
            return
        if _unknown(mapper, self._keys):
            # It may be a back reference from a class that is not configured itself.
            mapper.registry.configure(cascade=True)
        fault = _fault(mapper, self._keys)
        if fault:
            raise InvalidArgumentError(fault)

    def start(self) -> None:
        mapper = own_mapper_of(self.target)
        self._to_check = self._keys is not None and mapper is not None and not mapper.configured
        if self._to_check:
            event.listen(Mapper, "after_configured", self._check_keys_later)
        self._watch.start()

    def stop(self) -> None:
        self._watch.stop()
        stop_listening(Mapper, "after_configured", self._check_keys_later)
        for listener in self._listeners:
            listener.remove(self._subscription)
        self._listeners.clear()

    def _check_keys_later(self) -> None:
        # Each configuration of any registry comes here, and listeners cannot be removed while they are called.
        mapper = own_mapper_of(self.target)
        if self._to_check and mapper is not None and mapper.configured and self._keys is not None:
            self._to_check = False
            fault = _fault(mapper, self._keys)
            if fault:
                raise MappingError(fault)

    def _visit(self, mapper: AnyMapper, attribute: AnyAttribute) -> None:
        if self._keys is None or attribute.key in self._keys:
            listener = listener_for(mapper, attribute)
            if listener.add(self._subscription):
                self._listeners.append(listener)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassChanges) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash((self.target, self._keys))

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.target, self._subscription.fn, self._keys, self._subscription.active_history

    def __repr__(self) -> str:
        return f"the listener {self._subscription.fn!r}"


def _unknown(mapper: AnyMapper, keys: frozenset[str]) -> list[str]:
    return sorted(key for key in keys if not any(has_events(each, key) for each in mapper.self_and_descendants))


def _fault(mapper: AnyMapper, keys: frozenset[str]) -> str | None:
    unknown = _unknown(mapper, keys)
    if not unknown:
        return None
    return (
        f"listen_for_changes() on {mapper.class_.__name__} was given keys that are neither columns nor relationships "
        f"of it: {', '.join(map(repr, unknown))}; name mapped attributes, and for a composite or a synonym those that "
        "it stands for"
    )
