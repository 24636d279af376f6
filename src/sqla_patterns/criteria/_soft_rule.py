"""The rule that hides deleted rows, and helpers for the other modules of soft deletion."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_attribute

from .._maintained import deletes_for_good
from .._typing import AnyColumn, AnyMapper, MappedObject
from ._rules import FixedRule

#: On `Deletable`: how many classes were mapped below it.
_GENERATION: Final = "__sqla_soft_generation__"
#: The execution option that shows deleted rows.
INCLUDE: Final = "include_deleted"


class Deletable:
    """What `SoftDelete` is below the surface."""


def note_mapping() -> None:
    """Note that another class was mapped, so that what was decided about statements is looked at again."""
    setattr(Deletable, _GENERATION, generation() + 1)


def generation() -> int:
    """Return a number that changes when another class is mapped."""
    number: int = vars(Deletable).get(_GENERATION, 0)
    return number


def _criterion(entity: Any, _: ColumnElement[Any]) -> ColumnElement[bool]:
    found: ColumnElement[bool] = entity.deleted_at.is_(None)
    return found


SOFT: Final = FixedRule(Deletable, _criterion, INCLUDE)


def deleted_column(mapper: AnyMapper) -> AnyColumn:
    """Return the column of `deleted_at`, which is one of the topmost table."""
    column: AnyColumn = mapper.c["deleted_at"]
    return column


def mark(obj: MappedObject, stamp: datetime | None) -> None:
    """Set when an object was deleted."""
    set_attribute(obj, "deleted_at", stamp)


def shows_all(session: Session) -> bool:
    """Return whether a session removes rows at present, so that it must see those that are marked."""
    return deletes_for_good(session)
