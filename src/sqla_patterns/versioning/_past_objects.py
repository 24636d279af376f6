"""Objects from the past: detached, read-only instances of the versioned class itself."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from .._typing import AnyMapper, MappedObject
from ._errors import PastObjectError
from ._names import PAST_ATTRIBUTE


def is_past(obj: object) -> bool:
    """Return whether `obj` shows a version of the past."""
    return PAST_ATTRIBUTE in obj.__dict__


class PastObjects:
    """A factory of read-only instances of one class, as if they had been loaded and expunged.

    ``__init__`` is not called, as it is not when the ORM loads an object. Reading an attribute for which no value was
    given raises ``DetachedInstanceError``. The public ``set_committed_value`` and ``make_transient_to_detached`` would
    do the same, and take five times as long.

    Args:
        mapper: The mapper of the class.
        attrs: The names of the attributes that get values.
    """

    def __init__(self, mapper: AnyMapper, attrs: Sequence[str]) -> None:
        self.mapper = mapper
        self.attrs = tuple(attrs)
        self._new = mapper.class_manager.new_instance
        self._key = [self.attrs.index(str(mapper.get_property_by_column(column).key)) for column in mapper.primary_key]
        self._missing = set(mapper.column_attrs.keys()) - set(attrs)

    def make(self, values: Sequence[object]) -> MappedObject:
        """Return an instance with `values`, which are in the order of the attributes."""
        obj: MappedObject = self._new()
        attributes: dict[str, object] = obj.__dict__
        attributes.update(zip(self.attrs, values, strict=True))
        attributes[PAST_ATTRIBUTE] = True
        state = instance_state(obj)
        state.key = self.mapper.identity_key_from_primary_key(tuple(values[at] for at in self._key))
        if self._missing:
            state.expired_attributes.update(self._missing)
        return obj


def refuse_past_objects(session: Session, instance: object) -> None:
    """Raise if `instance` is an object from the past, as a flush would write it; a listener for ``before_attach``.

    Raises:
        PastObjectError: It is one.
    """
    if PAST_ATTRIBUTE in instance.__dict__:
        raise PastObjectError(
            f"this {type(instance).__name__} shows a version of the past and cannot be put into a session; bring the "
            "version back with revert() or restore()"
        )
