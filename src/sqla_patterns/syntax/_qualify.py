"""`qualify` and `qualified`: conditions on window functions, and what a SELECT that has them is compiled to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import ClauseElement, ColumnElement, ColumnExpressionArgument, Select, SelectBase, and_
from sqlalchemy import sql as _sql
from sqlalchemy.exc import CompileError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.visitors import InternalTraversal

from .. import _sqlalchemy
from .._typing import AnySelect
from ..exceptions import InvalidArgumentError
from ._native import is_native
from ._rewrite import rewritten

if TYPE_CHECKING:
    from sqlalchemy.sql import SyntaxExtension  # type: ignore[attr-defined,unused-ignore]
elif hasattr(_sql, "SyntaxExtension"):
    SyntaxExtension = _sql.SyntaxExtension
else:

    class SyntaxExtension:
        """Stands for the class that SQLAlchemy 2.0 does not have, as it has no ``Select.ext()`` to pass it to."""


# Not Select: its type parameters differ between the series, and Select[Any] selects one column on 2.1.
SelectT = TypeVar("SelectT", bound=SelectBase)


class Qualify(SyntaxExtension, ClauseElement):  # type: ignore[misc,unused-ignore]
    """The conditions of a QUALIFY, for ``Select.ext()``; made by `qualify()`.

    Attributes:
        conditions: What rows have to meet, each one computed from the rows that the ones before have left.
    """

    __visit_name__ = "library_qualify"
    inherit_cache = False
    _traverse_internals: Any = [("conditions", InternalTraversal.dp_clauseelement_list)]

    def __init__(self, conditions: Sequence[ColumnElement[Any]]) -> None:
        self.conditions = list(conditions)

    def apply_to_select(self, select_stmt: Any) -> None:
        """Qualify a SELECT, in place; called by ``Select.ext()``."""
        before = _sqlalchemy.mark_of(select_stmt, Qualify)
        both = self if before is None else Qualify([*before.conditions, *self.conditions])
        _sqlalchemy.mark(select_stmt, both, _compile_state)


class _NativeQualify(SyntaxExtension, ClauseElement):  # type: ignore[misc,unused-ignore]
    """The QUALIFY of a database that has it, which stands after HAVING."""

    __visit_name__ = "library_native_qualify"
    inherit_cache = False
    _traverse_internals: Any = [("condition", InternalTraversal.dp_clauseelement)]

    def __init__(self, condition: ColumnElement[Any]) -> None:
        self.condition = condition


@compiles(Qualify)
def _without_state(element: Qualify, compiler: Any, **kw: Any) -> str:
    raise CompileError("A QUALIFY can only be compiled as a part of its SELECT; compile the statement")


@compiles(_NativeQualify)
def _native(element: _NativeQualify, compiler: Any, **kw: Any) -> str:
    return f"QUALIFY {compiler.process(element.condition, **kw)}"


def qualify(*predicates: ColumnExpressionArgument[bool]) -> Qualify:
    """Return an extension for ``select(...).ext(...)`` that filters by window functions; for SQLAlchemy 2.1.

    Args:
        predicates: Conditions that may contain window functions; all must hold. A further ``ext(qualify(...))`` filters
            the rows that are left.

    Raises:
        InvalidArgumentError: There is no predicate, or this is SQLAlchemy 2.0.
    """
    if not hasattr(Select, "ext"):
        raise InvalidArgumentError(
            "qualify() needs Select.ext(), which SQLAlchemy has from 2.1; write: qualified(statement, predicate)"
        )
    _sqlalchemy.check_rewriting("qualify")
    return Qualify([_condition(predicates, "qualify")])


def qualified(statement: SelectT, *predicates: ColumnExpressionArgument[bool]) -> SelectT:
    """Return a SELECT with a QUALIFY, on both series of SQLAlchemy: ``qualified(select(Post), rank == 1)``.

    It is ``statement.ext(qualify(...))`` for SQLAlchemy 2.1. On 2.0, every database gets a subquery.

    Args:
        statement: The SELECT. Methods that are called on the result add to the SELECT, as QUALIFY comes after WHERE,
            GROUP BY and HAVING, and before DISTINCT, ORDER BY and LIMIT.
        predicates: Conditions that may contain window functions; all must hold. Qualifying the result again filters
            the rows that are left.

    Raises:
        InvalidArgumentError: There is no predicate, or `statement` is no SELECT.
    """
    if not isinstance(cast("object", statement), Select):
        raise InvalidArgumentError(
            f"qualified() needs a select() and was given {statement!r}; of a union, a text or a query, select from its "
            "subquery()"
        )
    _sqlalchemy.check_rewriting("qualified")
    changed = _sqlalchemy.copy_of(cast("AnySelect", statement))
    Qualify([_condition(predicates, "qualified")]).apply_to_select(changed)
    return cast("SelectT", changed)


def _condition(predicates: Sequence[ColumnExpressionArgument[bool]], function: str) -> ColumnElement[bool]:
    if not predicates:
        raise InvalidArgumentError(f"{function}() was given no predicate; pass at least one, such as rank == 1")
    return and_(*predicates)


def _compile_state(statement: AnySelect, compiler: Any, **arguments: Any) -> Any:
    """Return the compile state of a qualified SELECT, in the place of SQLAlchemy's own function."""
    element = cast("Qualify", _sqlalchemy.mark_of(statement, Qualify))
    plain = _sqlalchemy.unmarked(statement, Qualify)
    if is_native(compiler.dialect.name) and len(element.conditions) == 1:
        state = _native_state(plain, element.conditions[0], compiler, arguments)
        if state is not None:
            return state
    return _sqlalchemy.state_of_rewritten(rewritten(plain, element.conditions), plain, compiler, arguments)


def _native_state(plain: AnySelect, condition: ColumnElement[Any], compiler: Any, arguments: dict[str, Any]) -> Any:
    """Return the compile state with a QUALIFY, or None where it would count rows that eager loads add."""
    changed: Any = _sqlalchemy.copy_of(plain)
    add: Callable[..., None] | None = getattr(changed, "apply_syntax_extension_point", None)
    if add is None:
        return None

    def with_qualify(existing: Sequence[ClauseElement]) -> Sequence[ClauseElement]:
        return [*existing, _NativeQualify(condition)]

    add(with_qualify, "post_criteria")
    state = _sqlalchemy.state_of_select(changed, compiler, arguments)
    return None if _sqlalchemy.joins_collections(state) else state
