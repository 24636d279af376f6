"""A SELECT that is put together in another way when it is compiled, for the dialect at hand.

SQLAlchemy asks a SELECT for its compile state when it compiles it, and goes on with the statement of that state: this
is how the ORM makes a SELECT of tables out of one of classes. The functions here put a step of the library's before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar, cast

from sqlalchemy import ClauseElement, ColumnElement, FromClause, Subquery, UnaryExpression
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import elements, selectable
from sqlalchemy.sql.base import CompileState

from .._typing import AnyExpression, AnySelect
from ..exceptions import StateError
from . import _names as names
from ._statements import is_orm

MarkT = TypeVar("MarkT", bound=ClauseElement)
SelectT = TypeVar("SelectT", bound=AnySelect)

#: The compiler and the compile state of a statement, which SQLAlchemy does not export.
Compiler: TypeAlias = Any
State: TypeAlias = Any
#: Makes the compile state of a statement, for a compiler and further arguments that differ between the series.
StateFactory: TypeAlias = Callable[..., State]

_ANY_DIALECT: Final = "*"


def check_rewriting(function: str) -> None:
    """Make sure that this SQLAlchemy has all that rewriting a SELECT needs.

    Raises:
        StateError: It lacks something.
    """
    missing = [str(each) for each in names.NEEDED_TO_REWRITE if not each.exists()]
    if missing:
        raise StateError(
            f"{function}() cannot rewrite statements for this release of SQLAlchemy, which lacks {', '.join(missing)}; "
            "install one of the supported releases"
        )


def mark(statement: AnySelect, element: ClauseElement, factory: StateFactory) -> None:
    """Have `factory` make the compile state of a SELECT; in place.

    Args:
        statement: The SELECT, and every statement that is built from it.
        element: What `factory` goes by. It becomes part of the statement, and so of its cache key and of what is
            adapted where the statement is put into another one. It takes the place of another element of its class.
        factory: A function of a module.
    """
    suffixes = _suffixes_without(statement, type(element))
    setattr(statement, names.SUFFIXES.name, (*suffixes, (element, _ANY_DIALECT)))
    setattr(statement, names.COMPILE_STATE_FACTORY.name, factory)


def mark_of(statement: AnySelect, cls: type[MarkT]) -> MarkT | None:
    """Return the element of this class that a SELECT is marked with."""
    for element, _ in names.SUFFIXES.get(statement, ()):
        if isinstance(element, cls):
            return element
    return None


def unmarked(statement: SelectT, cls: type[ClauseElement]) -> SelectT:
    """Return the SELECT without its mark, so that SQLAlchemy makes the compile state."""
    plain = copy_of(statement)
    vars(plain).pop(names.COMPILE_STATE_FACTORY.name, None)
    setattr(plain, names.SUFFIXES.name, _suffixes_without(statement, cls))
    return plain


def _suffixes_without(statement: AnySelect, cls: type[ClauseElement]) -> tuple[Any, ...]:
    return tuple(each for each in names.SUFFIXES.get(statement, ()) if not isinstance(each[0], cls))


def copy_of(statement: SelectT) -> SelectT:
    """Return a copy that may be changed in place."""
    return statement.execution_options()


# -- the parts of a SELECT ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OrderTerm:
    """One expression of an ORDER BY.

    Attributes:
        expression: What is compared; None where the term is a name, which stays as it is.
        modifiers: DESC, NULLS LAST and the like, the outermost first.
        name: The term as it stands, if it is a name.
    """

    expression: AnyExpression | None
    modifiers: tuple[Any, ...] = ()
    name: Any = None

    def over(self, column: AnyExpression) -> AnyExpression:
        """Return the term with `column` in the place of its expression."""
        for modifier in reversed(self.modifiers):
            column = UnaryExpression(column, modifier=modifier)
        return column


def order_of(statement: AnySelect) -> Sequence[OrderTerm]:
    """Return what a SELECT is ordered by."""
    return [_order_term(each) for each in names.ORDER_BY_CLAUSES.get(statement)]


def _order_term(clause: Any) -> OrderTerm:
    reference, textual = names.LABEL_REFERENCE.get(elements), names.TEXTUAL_LABEL_REFERENCE.get(elements)
    modifiers: list[Any] = []
    expression = clause
    while True:
        modifier: Any = getattr(expression, "modifier", None)
        if modifier is not None:
            modifiers.append(modifier)
        elif not isinstance(expression, reference):
            break
        expression = expression.element
    if isinstance(expression, textual):
        return OrderTerm(None, name=clause)
    return OrderTerm(expression, tuple(modifiers))


def without_final_clauses(statement: SelectT) -> SelectT:
    """Return a SELECT without what is applied last: DISTINCT, ORDER BY, LIMIT, prefixes and suffixes."""
    inner: Any = statement.order_by(None).limit(None).offset(None).fetch(cast("Any", None))
    setattr(inner, names.DISTINCT.name, False)
    for entry in (names.DISTINCT_ON, names.PREFIXES, names.SUFFIXES):
        setattr(inner, entry.name, ())
    return cast("SelectT", inner)


def columns_over(statement: AnySelect, source: FromClause) -> list[Any]:
    """Return what a SELECT has to select from `source` in the place of its columns, to give the same rows.

    Entities and attributes stay, since the ORM adapts them to `source`.

    Args:
        statement: The SELECT.
        source: A subquery that has its columns.
    """
    found: list[Any] = []
    for column in names.RAW_COLUMNS.get(statement):
        annotations: dict[str, object] = names.ANNOTATIONS.get(column, {})
        if is_orm(statement) and ("parententity" in annotations or "bundle" in annotations):
            found.append(column)
        elif isinstance(column, FromClause):
            found += [_proxy(source, each) for each in list[object](cast("Any", column).c)]
        else:
            found.append(_proxy(source, column))
    return found


def column_in(source: FromClause, expression: object) -> AnyExpression | None:
    """Return the column of a subquery that has the values of an expression, None if there is none."""
    found: Any = source.corresponding_column(cast("Any", expression)) if isinstance(expression, ColumnElement) else None
    return cast("AnyExpression | None", found)


def _proxy(source: FromClause, column: object) -> AnyExpression:
    proxy: Any = column_in(source, column)
    if proxy is None:
        raise CompileError(
            f"A qualified SELECT cannot select {column!s}, which has no name outside of its subquery; "
            "give an expression with label()"
        )
    label: Any = proxy.label(proxy.name)
    # row._mapping[table.c.x] finds the value, as it does without the subquery.
    setattr(label, names.ALT_NAMES.name, (column,))
    return cast("AnyExpression", label)


def selected_from(
    statement: SelectT, source: Subquery, columns: Sequence[Any], condition: AnyExpression, order_by: Sequence[Any]
) -> SelectT:
    """Return a SELECT of `columns` from `source` that has what `without_final_clauses` has left out.

    Args:
        statement: The SELECT as it was written. Its options stay, since SQLAlchemy pairs those of a compiled statement
            with those of the one that is executed.
        source: Its subquery.
        columns: What is selected.
        condition: The WHERE.
        order_by: The ORDER BY.
    """
    outer: Any = copy_of(statement)
    changes = {
        names.RAW_COLUMNS: list(columns),
        names.FROM_OBJ: (source,),
        names.WHERE_CRITERIA: (condition,),
        names.ORDER_BY_CLAUSES: tuple(order_by),
        names.SETUP_JOINS: (),
        names.MEMOIZED_ENTITIES: (),
        names.GROUP_BY_CLAUSES: (),
        names.HAVING_CRITERIA: (),
    }
    if is_orm(statement):
        defaults: Any = names.DEFAULT_COMPILE_OPTIONS.get(names.PLUGIN_CLASS.get(CompileState)(statement))
        merged = names.SAFE_MERGE.get(defaults)(names.COMPILE_OPTIONS.get(statement))
        # The option also keeps the ORM from adding criteria, which the subquery has.
        changes[names.COMPILE_OPTIONS] = merged + {names.SET_BASE_ALIAS.name: True}
    for entry, value in changes.items():
        setattr(outer, entry.name, value)
    return cast("SelectT", outer)


# -- compile states ----------------------------------------------------------------------------------------------------


def state_of_select(statement: AnySelect, compiler: Compiler, arguments: dict[str, Any]) -> State:
    """Return the compile state that SQLAlchemy makes of a SELECT."""
    return names.CREATE_FOR_STATEMENT.get(CompileState)(statement, compiler, **arguments)


def joins_collections(state: State) -> bool:
    """Return whether a compile state of the ORM joins the tables of collections, for eager loads."""
    return bool(names.MULTI_ROW_LOADERS.get(state))


def state_of_rewritten(
    rewritten: AnySelect, original: AnySelect, compiler: Compiler, arguments: dict[str, Any]
) -> State:
    """Return the compile state of a SELECT that was rewritten to one from a subquery.

    Its FROM is looked at when it is rendered: the subquery must be all of it, since a column that is not in the
    subquery would bring its table along, in a Cartesian product. The subquery would also lose the correlation that the
    original has to an enclosing SELECT.

    Args:
        rewritten: The SELECT.
        original: The SELECT as it was written, without its mark.
        compiler: The compiler.
        arguments: What else SQLAlchemy has passed.
    """
    orm = is_orm(rewritten)
    state: Any = state_of_select(rewritten, compiler, arguments) if orm else _core_state()(rewritten, compiler)
    display_froms: Callable[..., list[FromClause]] = names.DISPLAY_FROMS.get(state)

    def checked(explicit_correlate_froms: Any = None, implicit_correlate_froms: Any = None) -> list[FromClause]:
        if names.COMPILER_STACK.get(compiler):
            own = names.DISPLAY_FROMS.get(state_of_select(original, compiler, arguments))
            if len(own(explicit_correlate_froms, implicit_correlate_froms)) < len(own()):
                raise CompileError(
                    "A qualified SELECT cannot refer to the SELECT around it where the database has no QUALIFY, "
                    "because it is put into a subquery of its FROM; join its subquery(), or compare with in_()"
                )
        froms = display_froms(explicit_correlate_froms, implicit_correlate_froms)
        if len(froms) != 1:
            others = ", ".join(str(getattr(each, "name", each)) for each in froms[1:])
            raise CompileError(
                f"A qualified SELECT needs columns of {others} that it does not select, for contains_eager() or "
                "another option; select the entity as well, or load it with selectinload() or joinedload()"
            )
        return froms

    setattr(state, names.DISPLAY_FROMS.name, checked)
    return state


@cache
def _core_state() -> type[Any]:
    """Return a class of compile states whose methods can be replaced on one object: SQLAlchemy's has slots."""
    return type("RewrittenSelectState", (names.SELECT_STATE.get(selectable),), {})
