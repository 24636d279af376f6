"""Rules: by what the rows of a class are distributed."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from sqlalchemy.orm import ColumnProperty, InstrumentedAttribute, QueryableAttribute
from sqlalchemy.types import TypeEngine

from .._typing import AnyColumn, AnyMapper
from ..exceptions import InvalidArgumentError
from ._errors import UnroutableKeyError
from ._routers import ShardRouter, find_shard

K = TypeVar("K")


class ShardKey(Generic[K]):
    """The column by whose value the rows of a class are distributed.

    Args:
        attribute: The mapped column, such as ``Location.continent``. Subclasses of the class follow it.
        router: Which shard belongs to a value.
    """

    def __init__(self, attribute: InstrumentedAttribute[K], router: ShardRouter[K]) -> None:
        prop = getattr(attribute, "property", None)
        if not isinstance(cast("object", attribute), QueryableAttribute) or not isinstance(prop, ColumnProperty):
            raise InvalidArgumentError(f"ShardKey({attribute!r}) needs a mapped column, such as Location.continent")
        self.attribute: Final = attribute
        self.router: Final = router
        self.mapper: Final[AnyMapper] = attribute.parent.mapper
        self.column: Final[AnyColumn] = cast("Any", prop.columns[0])
        self.name: Final = f"{self.mapper.class_.__name__}.{attribute.key}"
        self._kinds = _kinds_of(self.column.type)

    def fits(self, value: object) -> bool:
        """Return whether `value` is of the type that the column holds, so that Python compares it as databases do."""
        return self._kinds is None or (
            isinstance(value, self._kinds)
            # A datetime is a date to Python; in a column of dates it has lost its time.
            and not (isinstance(value, datetime) and self._kinds == (date,))
        )

    def shard_of(self, value: object) -> str:
        """Return the shard of a value that is to be written.

        Raises:
            UnroutableKeyError: It has none.
        """
        if value is not None and not self.fits(value):
            kinds = " or ".join(kind.__name__ for kind in self._kinds or ())
            raise UnroutableKeyError(value, self.name, why=f"the column holds values of the type {kinds}")
        return find_shard(self.router, value, self.name)

    def __repr__(self) -> str:
        return f"ShardKey({self.name}, {self.router!r})"


class FollowsParent:
    """The many-to-one relationship whose parent has the rows of a class with it on its shard.

    Args:
        relationship: Such as ``Report.location``. The parent's class has a rule of its own.
    """

    def __init__(self, relationship: InstrumentedAttribute[Any]) -> None:
        is_attribute = isinstance(cast("object", relationship), QueryableAttribute)
        if not is_attribute or isinstance(getattr(relationship.prop, "columns", None), list):
            raise InvalidArgumentError(f"FollowsParent({relationship!r}) needs a relationship, such as Report.location")
        self.relationship: Final = relationship
        self.mapper: Final[AnyMapper] = relationship.parent.mapper
        self.name: Final = f"{self.mapper.class_.__name__}.{relationship.key}"

    def __repr__(self) -> str:
        return f"FollowsParent({self.name})"


#: What the list of rules of a factory has in it.
ShardRule: TypeAlias = ShardKey[Any] | FollowsParent


def _kinds_of(type_: TypeEngine[Any]) -> tuple[type, ...] | None:
    try:
        kind = type_.python_type
    except NotImplementedError:
        return None
    if kind in (int, float, Decimal):
        return (int, float, Decimal)
    if issubclass(kind, Enum):
        return (kind,)
    return (kind,)
