"""Objects from the past: detached, read-only instances of the entity itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state

from ._errors import PastObjectError

__all__ = ("PastObjects", "is_past", "refuse_past_objects")

_PAST = "_sqla_patterns_past"


def is_past(obj: object) -> bool:
    """Whether `obj` shows a version of the past."""
    return _PAST in obj.__dict__


class PastObjects:
    """Makes instances of one class with given values, as if they had been loaded and expunged, and read-only.

    ``__init__`` is not called, as it is not when the ORM loads an object. What is not given raises ``DetachedInstanceError`` when it is read.
    The public ``set_committed_value`` and ``make_transient_to_detached`` would do the same at five times the cost.
    """

    def __init__(self, mapper: Mapper[Any], attrs: Sequence[str]) -> None:
        self.mapper = mapper
        self.attrs = tuple(attrs)
        self._new = mapper.class_manager.new_instance
        self._key = [self.attrs.index(str(mapper.get_property_by_column(column).key)) for column in mapper.primary_key]
        self._missing = set(mapper.column_attrs.keys()) - set(attrs)

    def make(self, values: Sequence[Any]) -> Any:
        """One instance, with `values` in the order of the attributes."""
        obj: Any = self._new()
        own: dict[str, Any] = obj.__dict__
        own.update(zip(self.attrs, values, strict=True))
        own[_PAST] = True
        state = instance_state(obj)
        state.key = self.mapper.identity_key_from_primary_key(tuple(values[at] for at in self._key))
        if self._missing:
            state.expired_attributes.update(self._missing)
        return obj


def refuse_past_objects(session: Session, instance: object) -> None:
    """A listener for ``before_attach``: keep the past out of sessions, where a flush would write it."""
    if _PAST in instance.__dict__:
        raise PastObjectError(
            f"this {type(instance).__name__} shows a version of the past and cannot be put into a session; bring the version back with "
            "revert() or restore()"
        )
