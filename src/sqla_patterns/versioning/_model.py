"""The two mixins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import JSON, Integer, String, Text, event
from sqlalchemy.orm import mapped_column

from .._declarative import mixin_attr
from ._errors import PastObjectError
from ._mapping import add_columns, map_history
from ._past import is_past
from ._types import UTCDateTime

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Mapped, Mapper

    from ._options import VersionOptions

__all__ = ("RevisionLog", "Versioned")


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


class RevisionLog:
    """A log of who changed something versioned, when and why: one row for a transaction, or for a `revision` block.

    Mix it in before the declarative base, and name the class in ``VersionOptions(revision=...)``. It may have columns of its own, which
    `revision` takes by name. A row exists only where something versioned was changed. Without ``__tablename__`` the table is
    called ``revision``.
    """

    if TYPE_CHECKING:
        id: Mapped[int]
        at: Mapped[datetime]
        actor: Mapped[str | None]
        request_id: Mapped[str | None]
        reason: Mapped[str | None]
        meta: Mapped[dict[str, Any] | None]
    else:
        __tablename__ = "revision"

        @mixin_attr
        def id(cls):
            return mapped_column("id", Integer(), primary_key=True, sort_order=-10)

        @mixin_attr
        def at(cls):
            return mapped_column("at", UTCDateTime(), nullable=False, sort_order=-9)

        @mixin_attr
        def actor(cls):
            return mapped_column("actor", String(255), nullable=True, sort_order=-8)

        @mixin_attr
        def request_id(cls):
            return mapped_column("request_id", String(255), nullable=True, sort_order=-7)

        @mixin_attr
        def reason(cls):
            return mapped_column("reason", Text(), nullable=True, sort_order=-6)

        @mixin_attr
        def meta(cls):
            return mapped_column("meta", JSON(none_as_null=True), nullable=True, sort_order=-5)
