"""`RevisionLog`: the mixin for a table of revisions, which say who changed objects, when and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Integer, String, Text
from sqlalchemy.orm import mapped_column

from .._declarative import mixin_attr, on_mapped
from ._types import UTCDateTime

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Mapped


class RevisionLog:
    """A mixin for rows that say who changed versioned objects, when and why, in one transaction or `revision` block.

    Mix the class in before the declarative base, and name the mapped class in ``VersionOptions(revision=...)``. It may
    have further columns, whose values `revision` takes by name. A row is inserted only if something versioned changes.
    Without ``__tablename__`` the table is called ``revision``.
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
        def _sqla_revision_log(cls):
            # Adds nothing; SQLAlchemy evaluates it while it maps the class.
            on_mapped(cls)
            return

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
