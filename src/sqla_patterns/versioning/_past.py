"""Objects from the past: detached, read-only instances of the entity itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Mapper, Session, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

from ._errors import PastObjectError

__all__ = ("detached", "is_past", "past_object", "refuse_past_objects")

_PAST = "_sqla_patterns_past"


def is_past(obj: object) -> bool:
    """Whether `obj` shows a version of the past."""
    return _PAST in obj.__dict__


def detached(mapper: Mapper[Any], values: Mapping[str, Any]) -> Any:
    """An instance with `values` by attribute, as if it had been loaded and expunged.

    ``__init__`` is not called, as it is not when the ORM loads one.
    """
    obj: Any = mapper.class_manager.new_instance()
    for key, value in values.items():
        set_committed_value(obj, key, value)
    make_transient_to_detached(obj)
    return obj


def past_object(mapper: Mapper[Any], values: Mapping[str, Any]) -> Any:
    """As `detached`, and read-only."""
    obj = detached(mapper, values)
    obj.__dict__[_PAST] = True
    return obj


def refuse_past_objects(session: Session, instance: object) -> None:
    """A listener for ``before_attach``: keep the past out of sessions, where a flush would write it."""
    if _PAST in instance.__dict__:
        raise PastObjectError(
            f"this {type(instance).__name__} shows a version of the past and cannot be put into a session; bring the version back with "
            "revert() or restore()"
        )
