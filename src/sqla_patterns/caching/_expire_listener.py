"""Drop the values that were looked up for lazy attributes in advance, when these attributes are expired.

`_lazy_loads` looks them up and keeps them beside the object until the attribute is read.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from sqlalchemy import event, inspect

from . import _replay

if TYPE_CHECKING:
    from .._typing import AnyState, MappedClass


class ExpireListener:
    """A listener that drops the kept values of attributes that are expired before they were read.

    SQLAlchemy does so itself where it expires a whole object, and for single attributes if they are columns.
    """

    def __init__(self) -> None:
        self._watched: weakref.WeakSet[MappedClass] = weakref.WeakSet()

    def watch(self, cls: MappedClass) -> None:
        """Listen to a mapped class and its subclasses."""
        if cls not in self._watched:
            # Once for each class: listeners must not change while others call them.
            self._watched.add(cls)
            event.listen(cls, "expire", self._expired, propagate=True)

    def detach(self) -> None:
        """Stop listening."""
        for cls in list(self._watched):
            # A class whose registry was disposed has no listeners any more.
            if event.contains(cls, "expire", self._expired):
                event.remove(cls, "expire", self._expired)
        self._watched.clear()

    def _expired(self, instance: object, attributes: Collection[str] | None) -> None:
        state = cast("AnyState", inspect(instance))
        for key in attributes or ():
            _replay.KeptAttribute.remove(state, key)
