"""`temporal_range`: show only rows within a range, in one statement and what it loads."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any, Final, Literal, TypeAlias, cast

from sqlalchemy import BindParameter, ColumnElement, and_, inspect
from sqlalchemy.orm import LoaderCriteriaOption, QueryableAttribute
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import NullType

from ..exceptions import InvalidArgumentError
from ._columns import HasTemporal
from ._errors import InvalidRangeError
from ._private import OPTION_INTERNALS, AnyElement, Criterion, annotated
from ._rules import Neutral, mapped_subclasses

Bounds: TypeAlias = Literal["[]", "[)", "(]", "()"]


def temporal_range(
    lower: object,
    upper: object,
    *,
    on: type[Any] = HasTemporal,
    attribute: str = "timestamp",
    bounds: Bounds = "[]",
) -> LoaderCriteriaOption:
    """Return an option for one statement: of the classes below `on`, only rows whose `attribute` is within a range.

    ``select(Order).options(temporal_range(monday, friday))``. It applies wherever the class occurs in the statement, to
    eager loads, and to lazy loads of the objects that are loaded. Objects that the session holds already keep the
    collections that they have, unless the statement has ``populate_existing``.

    Args:
        lower: The lower bound: a datetime, or whatever is compared with the attribute.
        upper: The upper bound.
        on: A mixin or a mapped class.
        attribute: The name of the attribute.
        bounds: Which bounds belong to the range, as in PostgreSQL: ``"[]"`` both, as BETWEEN has it, ``"[)"`` the lower
            one.

    Raises:
        InvalidRangeError: `lower` is above `upper`, or only one of them has a time zone. It is a `ValueError` too.
        InvalidArgumentError: `bounds` is none of the four, or mapped classes below `on` have no such attribute.
    """
    if bounds not in ("[]", "[)", "(]", "()"):
        raise InvalidArgumentError(
            f"temporal_range() was given bounds={bounds!r}; pass '[]', '[)', '(]' or '()', with a square bracket for "
            f"a bound "
            "that belongs to the range"
        )
    if not isinstance(cast("object", on), type):
        raise InvalidArgumentError(f"temporal_range() was given on={on!r}; pass a mixin or a mapped class")
    _check_bounds(lower, upper)
    for mapper in mapped_subclasses(on):
        if not isinstance(getattr(mapper.class_, attribute, None), QueryableAttribute):
            raise InvalidArgumentError(
                f"temporal_range() on {on.__name__}: {mapper.class_.__name__} has no mapped attribute {attribute!r}; "
                "pass the name of one as attribute="
            )
    return RangeOption(on, attribute, bounds, lower, upper)


def _check_bounds(lower: Any, upper: Any) -> None:
    for bound in (lower, upper):
        if bound is None:
            raise InvalidRangeError(
                "temporal_range() needs two bounds and was given None; for one bound write a criterion"
            )
    aware = [bound.tzinfo is not None for bound in (lower, upper) if isinstance(bound, (datetime, time))]
    if len(set(aware)) > 1:
        raise InvalidRangeError(
            f"temporal_range() was given {lower!r} and {upper!r}, of which only one has a time zone; pass both with "
            f"one, or none"
        )
    try:
        is_reversed = bool(lower > upper)
    except TypeError as error:
        raise InvalidRangeError(
            f"temporal_range() was given {lower!r} and {upper!r}, which cannot be compared; pass two of a kind"
        ) from error
    if is_reversed:
        raise InvalidRangeError(f"temporal_range() was given {lower!r} above {upper!r}; pass the lower bound first")


class RangeOption(LoaderCriteriaOption):
    """The criterion of a range, whose bounds are parameters, so that all ranges share one compiled statement."""

    __slots__ = ("attribute", "bounds", "values")

    _traverse_internals = [
        *OPTION_INTERNALS,
        ("attribute", InternalTraversal.dp_string),
        ("bounds", InternalTraversal.dp_string),
    ]

    def __init__(self, on: type[Any], attribute: str, bounds: str, lower: object, upper: object) -> None:
        self.attribute: Final = attribute
        self.bounds: Final = bounds
        pair = [BindParameter[Any](None, each, type_=NullType(), unique=True) for each in (lower, upper)]
        self.values: Final = tuple(pair)
        mapper: object = inspect(cast("object", on), raiseerr=False)
        self.root_entity = on if mapper is None else None
        self.entity: Any = mapper
        self.deferred_where_criteria = False
        self._where_crit_orig = None
        # Of the criterion only its values matter here: they are what the cache key has to know.
        self.where_criteria: Any = and_(*(each.is_not(None) for each in pair))
        self.include_aliases = True
        self.propagate_to_loaders = True

    def _resolve_where_criteria(self, ext_info: AnyElement) -> Criterion:
        column: ColumnElement[Any] = getattr(ext_info.entity, self.attribute)
        lower, upper = self.values
        return annotated(
            and_(
                column >= lower if self.bounds[0] == "[" else column > lower,
                column <= upper if self.bounds[1] == "]" else column < upper,
            ),
            self,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (Neutral, (None,))
