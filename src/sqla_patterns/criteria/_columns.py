"""`HasPrivate` and `HasTemporal`: mixins that add one column each, as in SQLAlchemy's examples."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from sqlalchemy import Boolean, DateTime
from sqlalchemy.orm import Mapped, mapped_column

from .._declarative import mixin_attr, on_mapped


class HasPrivate:
    """A mixin with `public`, a boolean that is true unless you set it.

    It hides nothing by itself: attach a `GlobalCriteria` over it.
    """

    @mixin_attr
    def public(cls) -> Mapped[bool]:
        """Return whether everybody may see the row."""
        return mapped_column(Boolean, nullable=False, default=True)

    @mixin_attr
    def _sqla_private(cls) -> Any:
        on_mapped(cast("type[Any]", cls))


class HasTemporal:
    """A mixin with `timestamp`, when the object was made, in local time without a zone; see `temporal_range`.

    For aware timestamps redeclare it, with ``DateTime(timezone=True)`` and a default of your own.
    """

    @mixin_attr
    def timestamp(cls) -> Mapped[datetime]:
        """When the object was made."""
        return mapped_column(DateTime, nullable=False, default=datetime.now)

    @mixin_attr
    def _sqla_temporal(cls) -> Any:
        on_mapped(cast("type[Any]", cls))
