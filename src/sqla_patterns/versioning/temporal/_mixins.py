"""The three mixins, and what is common to them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, cast

from sqlalchemy import Boolean, Column, Integer, event
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import NullType

from ..._declarative import mixin_attr, on_mapped
from ..._maintained import MaintainedColumn
from ..._typing import ParentKey
from .. import _clock
from .._types import UTCDateTime
from ._mapping import map_rows, refuse_subclass, type_object_id, watch
from ._options import TemporalOptions
from ._rows import TemporalBase

if TYPE_CHECKING:
    from ..._typing import AnyMapper


def _options(cls: Any) -> TemporalOptions:
    return cast("TemporalOptions", getattr(cls, "__temporal__", None) or TemporalOptions())


def _begin(context: ExecutionContext) -> datetime:
    """Return when a row begins that an INSERT statement makes; a flush gives its rows the time of the transaction.

    It takes the context because SQLAlchemy wraps other functions, and the MetaData could not be pickled then.
    """
    return _clock.now()


class _Rows(TemporalBase):
    """What the three forms have in common: the options and, where they ask for them, the times."""

    #: The options of the class.
    __temporal__: ClassVar[TemporalOptions | None] = None

    @mixin_attr
    def _sqla_temporal(cls) -> Any:
        # Adds no attribute. SQLAlchemy evaluates it while it maps the topmost class.
        on_mapped(cast("type[Any]", cls), table=_map_rows, constructed=watch)
        event.listen(cls, "instrument_class", refuse_subclass, propagate=True)


def _map_rows(mapper: AnyMapper) -> None:
    cls = mapper.class_
    if issubclass(cls, CopiedRow):
        type_object_id(mapper)
        map_rows(mapper, "copied", _options(cls))
    else:
        map_rows(mapper, "versioned" if issubclass(cls, VersionedRow) else "temporal", _options(cls))


class _Flagged(_Rows):
    """The forms whose current row has a flag."""

    __sqla_maintained_columns__: ClassVar[tuple[MaintainedColumn, ...]] = tuple(
        MaintainedColumn(name, "temporal rows")
        for name in ("version_id", "object_id", "is_current", "valid_from", "valid_to")
    )

    if TYPE_CHECKING:
        #: Whether this is the current version of its object.
        is_current: Mapped[bool]
        #: With ``TemporalOptions(period=True)``: when the version began.
        valid_from: Mapped[datetime]
        #: With ``TemporalOptions(period=True)``: when it ended, None as long as it is current.
        valid_to: Mapped[datetime | None]
    else:

        @mixin_attr
        def is_current(cls) -> Mapped[bool]:
            return mapped_column(Boolean, nullable=False, default=True, sort_order=1)

        @mixin_attr
        def valid_from(cls) -> Mapped[datetime]:
            return (
                mapped_column(UTCDateTime(), nullable=False, default=_begin, sort_order=1)
                if _options(cls).period
                else None
            )

        @mixin_attr
        def valid_to(cls) -> Mapped[datetime | None]:
            return mapped_column(UTCDateTime(), nullable=True, sort_order=1) if _options(cls).period else None


class VersionedRow(_Flagged):
    """An object whose versions are rows of its own table, told apart by a number.

    Mix the class in before the declarative base. The primary key of the class tells the objects apart; ``version_id``
    becomes a part of it and counts from 1. A flush that changes an object inserts a row and sets ``is_current`` of the
    former one to false; the object in hand is the new version.
    """

    if TYPE_CHECKING:
        #: The number of the version, from 1.
        version_id: Mapped[int]
    else:

        @mixin_attr
        def version_id(cls) -> Mapped[int]:
            return mapped_column(
                Integer, primary_key=True, autoincrement=False, nullable=False, default=1, sort_order=1
            )


class TemporalRow(_Rows):
    """An object whose versions are rows of its own table, told apart by the time at which each began.

    Mix the class in before the declarative base. The primary key of the class tells the objects apart; ``valid_from``
    becomes a part of it. ``valid_to`` is NULL as long as a version is current. A version holds at ``valid_from`` and no
    longer at ``valid_to``, so that `valid_at` finds exactly one.
    """

    __sqla_maintained_columns__: ClassVar[tuple[MaintainedColumn, ...]] = tuple(
        MaintainedColumn(name, "temporal rows") for name in ("valid_from", "valid_to")
    )

    if TYPE_CHECKING:
        #: When the version began.
        valid_from: Mapped[datetime]
        #: When it ended, None as long as it is current.
        valid_to: Mapped[datetime | None]
    else:

        @mixin_attr
        def valid_from(cls) -> Mapped[datetime]:
            return mapped_column(UTCDateTime(), primary_key=True, nullable=False, default=_begin, sort_order=1)

        @mixin_attr
        def valid_to(cls) -> Mapped[datetime | None]:
            return mapped_column(UTCDateTime(), nullable=True, sort_order=1)


class CopiedRow(_Flagged):
    """An object whose versions are rows of its own table, each with a primary key of its own.

    Mix the class in before the declarative base. A flush that changes an object inserts a row with a new ``id`` and
    sets ``is_current`` of the former one to false; the object in hand is the new row. ``object_id`` is the ``id`` of
    the first version, in all of them. This is the form of SQLAlchemy's plain ``versioned_rows`` recipe, and lets other
    tables refer to one version by an ordinary foreign key.
    """

    if TYPE_CHECKING:
        #: The ``id`` of the first version of the object.
        object_id = ParentKey()
    else:

        @mixin_attr
        def object_id(cls) -> Mapped[Any]:
            # The database may make the id, so that this is known only after the INSERT.
            return Column("object_id", NullType(), nullable=True)
