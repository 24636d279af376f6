"""`Versioned`: the mixin for versioned classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import event

from .._declarative import mixin_attr
from .._maintained import MaintainedColumn
from ._errors import PastObjectError
from ._flush import copy_announced
from ._mapping import add_columns, copy_later_columns, map_history
from ._past_objects import is_past

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Mapped

    from .._typing import AnyMapper
    from ._options import VersionOptions


class Versioned:
    """A mixin for objects whose earlier versions are kept in a history table.

    Mix the class in before the declarative base. It adds the attribute ``version``, an integer that counts from 1, and
    a table ``<table>_history`` with the columns of the main table, ``version`` and ``changed``. Each flush that changes
    or deletes an object copies the row as it was to that table; an INSERT copies nothing. It works with every session,
    sync or async; nothing has to be attached.

    ``__history_mapper__`` is the mapper of the history class, as in SQLAlchemy's recipe; ``__versioned__`` takes the
    options.
    """

    #: Have SQLAlchemy check ``version`` in each UPDATE and DELETE, and raise ``StaleDataError`` if another transaction
    #: has changed the row since it was loaded.
    use_mapper_versioning = False

    __versioned__: VersionOptions | None = None

    # Not in a dump (`in_dump` is False): a row that is inserted elsewhere has no past there.
    __sqla_maintained_columns__: ClassVar[tuple[MaintainedColumn, ...]] = tuple(
        MaintainedColumn(name, "Versioned", in_history=True) for name in ("version", "valid_from", "revision_id")
    )

    if TYPE_CHECKING:
        version: Mapped[int]
        #: With ``VersionOptions(period=True)``: when the current version began.
        valid_from: Mapped[datetime]
        #: With ``VersionOptions(revision=...)``: the revision that made the current version.
        revision_id: Mapped[int | None]
        __history_mapper__: ClassVar[AnyMapper]
    else:

        @mixin_attr
        def _sqla_versioned(cls):
            # Adds no attribute. SQLAlchemy evaluates it while it maps the first class of a hierarchy; the listeners are
            # called for its subclasses too.
            event.listen(cls, "instrument_class", _add_columns, propagate=True)
            event.listen(cls, "after_mapper_constructed", _map_history, propagate=True)
            return

        # Called by other packages; see BEFORE_MAINTENANCE in `sqla_patterns._maintained`.
        @staticmethod
        def __sqla_before_maintenance__(session, objects):
            copy_announced(session, objects)

        @staticmethod
        def __sqla_column_added__(mapped_class):
            copy_later_columns(mapped_class)

        # Hidden from type checkers, which would otherwise allow assignments to any name.
        def __setattr__(self, name, value):
            if is_past(self):
                raise PastObjectError(_READ_ONLY.format(action="set", name=name, cls=type(self).__name__))
            super().__setattr__(name, value)

        def __delattr__(self, name):
            if is_past(self):
                raise PastObjectError(_READ_ONLY.format(action="delete", name=name, cls=type(self).__name__))
            super().__delattr__(name)


def _add_columns(mapper: AnyMapper, _: type[object]) -> None:
    add_columns(mapper)


def _map_history(mapper: AnyMapper, _: type[object]) -> None:
    map_history(mapper)


_READ_ONLY = (
    "cannot {action} {name!r} of this {cls}: it shows a version of the past; change the present object, or bring the "
    "version back with revert() or restore()"
)
