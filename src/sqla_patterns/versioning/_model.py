"""The mixin of versioned classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import event

from .._declarative import mixin_attr
from ._errors import PastObjectError
from ._mapping import add_columns, map_history
from ._past import is_past

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Mapped, Mapper

    from ._options import VersionOptions

__all__ = ("Versioned",)


class Versioned:
    """A class whose rows have a history, in a table of their own.

    Mix it in before the declarative base. It adds ``version``, an integer that counts from 1, and a table ``<table>_history`` with the
    columns of the main one, ``version`` and ``changed``. Each flush that changes or deletes an object copies the row as it was
    to that table; an INSERT copies nothing. It works with every session, sync or async; nothing has to be attached.

    ``__history_mapper__`` is the mapper of the history class, as in the upstream recipe; ``__versioned__`` takes the options.
    """

    #: Have SQLAlchemy check ``version`` in each UPDATE and DELETE, and raise ``StaleDataError`` where somebody else was faster.
    use_mapper_versioning = False

    __versioned__: VersionOptions | None = None

    if TYPE_CHECKING:
        version: Mapped[int]
        #: With ``VersionOptions(period=True)``: when the current version began.
        valid_from: Mapped[datetime]
        #: With ``VersionOptions(revision=...)``: the revision that made the current version.
        revision_id: Mapped[int | None]
        __history_mapper__: ClassVar[Mapper[Any]]
    else:

        @mixin_attr
        def _sqla_versioned(cls):
            # Adds nothing: SQLAlchemy evaluates it while it maps the first class of a hierarchy. The listeners hear the others.
            event.listen(cls, "instrument_class", _add_columns, propagate=True)
            event.listen(cls, "after_mapper_constructed", _map_history, propagate=True)
            return

        # Hidden from type checkers, which would take it as leave to assign to any name.
        def __setattr__(self, name, value):
            if is_past(self):
                raise PastObjectError(_READ_ONLY.format(action="set", name=name, cls=type(self).__name__))
            super().__setattr__(name, value)

        def __delattr__(self, name):
            if is_past(self):
                raise PastObjectError(_READ_ONLY.format(action="delete", name=name, cls=type(self).__name__))
            super().__delattr__(name)


def _add_columns(mapper: Mapper[Any], _: type[Any]) -> None:
    add_columns(mapper)


def _map_history(mapper: Mapper[Any], _: type[Any]) -> None:
    map_history(mapper)


_READ_ONLY = (
    "cannot {action} {name!r} of this {cls}: it shows a version of the past; change the present object, or bring the version back "
    "with revert() or restore()"
)
