"""Call a function with every mapped attribute of a class and of its subclasses, so that it can listen to the attribute.

The function is called for attributes that exist, and for those that are mapped later once they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, TypeAlias

from sqlalchemy import event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import ColumnProperty, RelationshipProperty

from .._sqlalchemy import own_mapper_of
from .._typing import AnyAttribute, AnyMapper, MappedClass

Visit: TypeAlias = Callable[[AnyMapper, AnyAttribute], None]


class AttributeWatch:
    """A visitor that is called with each column and relationship attribute of a class and its subclasses.

    It is called once the mapper of the class is configured.

    Two events are needed. "mapper_configured" comes after validators and ``sqlalchemy.ext.mutable`` have put their own
    listeners in place, so that listeners added here see the values which those return. Attributes that a class gets
    afterwards, because another class has a ``backref`` to it or because one is assigned to the class, are announced by
    "attribute_instrument" only.
    """

    def __init__(self, target: MappedClass, visit: Visit) -> None:
        self.target: Final = target
        self._visit: Final = visit
        self._active = False

    def start(self) -> None:
        self._active = True
        for mapper in mappers_below(self.target):
            if mapper.configured:
                visit_attributes(mapper, self._visit)
        event.listen(self.target, "mapper_configured", self._on_configured, propagate=True)
        event.listen(self.target, "attribute_instrument", self._on_instrument)

    def stop(self) -> None:
        # Classes that are mapped but not configured keep their copy of the listener: hence the flag.
        self._active = False
        stop_listening(self.target, "mapper_configured", self._on_configured)
        stop_listening(self.target, "attribute_instrument", self._on_instrument)

    def _on_configured(self, mapper: AnyMapper, _: MappedClass) -> None:
        if self._active:
            visit_attributes(mapper, self._visit)

    def _on_instrument(self, cls: MappedClass, key: str, _: object) -> None:
        if self._active:
            visit_late_attribute(cls, key, self._visit)


def stop_listening(target: object, identifier: str, listener: Callable[..., object]) -> None:
    """Remove a listener, which a test suite may have removed before, together with all others."""
    if event.contains(target, identifier, listener):
        with suppress(InvalidRequestError, KeyError):  # KeyError: the target was mapped since
            event.remove(target, identifier, listener)


def subclasses(target: MappedClass) -> Iterator[MappedClass]:
    """Yield `target` and all of its subclasses, each once."""
    seen: set[MappedClass] = set()
    rest: list[MappedClass] = [target]
    while rest:
        cls = rest.pop()
        if cls not in seen:
            seen.add(cls)
            yield cls
            rest.extend(type.__subclasses__(cls))


def mappers_below(target: MappedClass) -> Iterator[AnyMapper]:
    """Yield the mappers of `target` and of its subclasses."""
    for cls in subclasses(target):
        mapper = own_mapper_of(cls)
        if mapper is not None:
            yield mapper


def visit_attributes(mapper: AnyMapper, visit: Visit) -> None:
    """Call `visit` with each column and relationship attribute of a class."""
    # Not mapper.attrs: it would be computed for good before other classes have added their back references.
    for key, attribute in list(mapper.class_manager.items()):
        if has_events(mapper, key):
            visit(mapper, attribute)


def visit_late_attribute(cls: MappedClass, key: str, visit: Visit) -> None:
    """Call `visit` with an attribute that was added after the mapper of its class was configured."""
    mapper = own_mapper_of(cls)
    if mapper is not None and mapper.configured and has_events(mapper, key):
        visit(mapper, mapper.class_manager[key])


def has_events(mapper: AnyMapper, key: str) -> bool:
    """Return whether `key` names a column or a relationship; composites are heard as their columns."""
    return mapper.has_property(key) and isinstance(mapper.get_property(key), (ColumnProperty, RelationshipProperty))
