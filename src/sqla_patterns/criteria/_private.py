"""The private names of SQLAlchemy that criteria need, behind typed helpers; `_sqlalchemy` has those of other packages.

==================================================  ============================================================
name                                                used for
==================================================  ============================================================
``LoaderCriteriaOption._resolve_where_criteria``    criteria whose value is a bound parameter of the cache key
``ClauseElement._generate_cache_key``               a result that is kept for statements of the same structure
``Executable._with_options``                        to replace an option instead of adding a second one
``ClauseElement._propagate_attrs``, ``_annotations``  whether a statement, or a part of it, belongs to the ORM
``ClauseElement._is_clone_of``                      to know a FROM again after SQLAlchemy has copied it
``Select._where_criteria``, ``_raw_columns``,       what a statement consists of
``_prefixes``, ``_suffixes``, ``_hints``, ...
``SQLCompiler._generate_delimited_and_list``        the conditions of WHERE, as they are rendered
``_sa_orm_update_options`` and its like             how the ORM executes an INSERT, UPDATE or DELETE
``sql.util.ClauseAdapter``, ``_deep_annotate``,     to move a criterion to an alias
``_deep_deannotate``
``orm.evaluator._EvaluatorCompiler``                a criterion of a loaded object in Python; without it, a SELECT
``RelationshipProperty.Comparator``                 on 2.0, criteria in ``any()`` and ``has()`` at no cost
``._criterion_exists``
``orm.identity.WeakInstanceDict``                   loaded objects of another tenant are not returned
``Session._identity_lookup``                        ``get()`` and many-to-one loads do not return loaded
                                                    objects that are hidden
``Session._flushing``                               a flush sees all objects of the session
``Mapper._is_orphan``, ``AttributeImpl``            orphans are marked, and keep their foreign keys
``.sethasparent``, ``InstanceState.parents``,
``.committed_state``, ``._pending_mutations``,
``_reverse_property``
``Session._bulk_save_mappings``                     legacy bulk calls, which have no event: seen in the call stack
==================================================  ============================================================

`tests/criteria/test_private.py` looks for each. A name that is missing makes statements fail, never pass unfiltered:
what cannot be verified is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from sqlalchemy import ColumnElement, Executable, FromClause, Table
from sqlalchemy.orm import LoaderCallableStatus, LoaderCriteriaOption, ORMExecuteState, PassiveFlag, evaluator, identity
from sqlalchemy.sql import util as sql_util
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BooleanClauseList, ClauseElement, ColumnClause
from sqlalchemy.sql.operators import and_
from sqlalchemy.sql.selectable import Alias, TableSample

from .._typing import AnyRelationship, AnyState

#: A part of a statement, of whichever class; its attributes are SQLAlchemy's own.
AnyElement: TypeAlias = Any
Criterion: TypeAlias = ColumnElement[bool]

#: What is in memory, without SQL.
PASSIVE_LOADED: Final = PassiveFlag.PASSIVE_NO_INITIALIZE
#: The value in the database, loaded if it must be, without a flush.
PASSIVE_OLD: Final = (
    PassiveFlag.PASSIVE_ONLY_PERSISTENT
    | PassiveFlag.NO_AUTOFLUSH
    | PassiveFlag.LOAD_AGAINST_COMMITTED
    | PassiveFlag.NO_RAISE
)
#: The class of `Session.identity_map`.
WeakIdentityMap: Final[type[Any]] = (
    getattr(identity, "_WeakInstanceDict", None) or cast("Any", identity).WeakInstanceDict
)
#: Traversal internals that tell options of different rules apart.
OPTION_INTERNALS: Final = cast("Any", LoaderCriteriaOption)._traverse_internals


def private(element: object) -> AnyElement:
    """Return `element` for access to an attribute that is private to SQLAlchemy."""
    return element


def is_orm(statement: object) -> bool:
    """Return whether the ORM compiles the statement."""
    attributes: Mapping[str, object] = getattr(statement, "_propagate_attrs", {})
    return attributes.get("compile_state_plugin") == "orm"


def cache_key_of(statement: object) -> object | None:
    """Return what statements of one structure have in common, or None for one that cannot be cached."""
    key = private(statement)._generate_cache_key()
    return None if key is None else key.key


def options_of(statement: object) -> tuple[object, ...]:
    """Return the options of a statement, in their order."""
    return tuple(getattr(statement, "_with_options", ()))


def dml_strategy(state: ORMExecuteState) -> str | None:
    """Return how the ORM is going to execute an INSERT, UPDATE or DELETE: ``orm``, ``bulk``, ``core_only`` or
    ``raw``.
    """
    name = "_sa_orm_insert_options" if state.is_insert else "_sa_orm_update_options"
    options: Any = cast("Mapping[str, Any]", state.execution_options).get(name)
    return None if options is None else str(options._dml_strategy)


def with_options(statement: Executable, options: Sequence[object]) -> Executable:
    """Return a copy of the statement with these options and no others."""
    copy = private(statement)._generate()
    copy._with_options = tuple(options)
    return cast("Executable", copy)


def annotated(criterion: Criterion, option: object) -> Criterion:
    """Return the criterion as `LoaderCriteriaOption` hands it to the ORM."""
    found: Any = cast("Any", sql_util)._deep_annotate(
        criterion, {"for_loader_criteria": option}, detect_subquery_cols=True, ind_cols_on_fromclause=True
    )
    return cast("Criterion", found)


def adapted(criterion: Criterion, from_: FromClause) -> Criterion:
    """Return the criterion of a table, without annotations, over `from_`: the table itself or an alias of it."""
    plain: Any = cast("Any", sql_util)._deep_deannotate(criterion)
    return cast("Criterion", plain if isinstance(from_, Table) else sql_util.ClauseAdapter(from_).traverse(plain))


def original_of(element: AnyElement) -> AnyElement:
    """Return what `element` is a copy of, through all copies."""
    while getattr(element, "_is_clone_of", None) is not None:
        element = element._is_clone_of
    return element._deannotate() if hasattr(element, "_deannotate") and element._annotations else element


def from_key(from_: AnyElement) -> int:
    """Return what the copies of a FROM have in common; within one SELECT they are rendered under one name."""
    return hash(original_of(from_))


def table_of(from_: AnyElement) -> Table | None:
    """Return the table that a FROM is, or is an alias of."""
    found = original_of(from_)
    while isinstance(found, (Alias, TableSample)):
        found = original_of(private(cast("object", found)).element)
    return cast("Any", found) if isinstance(found, Table) else None


def conjuncts(clauses: Sequence[AnyElement]) -> Iterator[AnyElement]:
    """Yield what is ANDed, without the ANDs."""
    for clause in clauses:
        if isinstance(clause, BooleanClauseList) and private(clause).operator is and_:
            yield from conjuncts(private(clause).clauses)
        else:
            yield clause


def elements_of(root: ClauseElement | AnyElement, stop: Callable[[AnyElement], bool]) -> Iterator[AnyElement]:
    """Yield `root` and all that is in it, without what is inside of elements for which `stop` is true."""
    todo: list[AnyElement] = [root]
    while todo:
        element = todo.pop()
        yield element
        if not isinstance(element, ColumnClause) and (element is root or not stop(element)):
            todo.extend(element.get_children())


def iterate(statement: AnyElement) -> Iterator[AnyElement]:
    """Yield every part of a statement, always in the same order for statements with the same cache key."""
    return cast("Iterator[AnyElement]", visitors.iterate(statement))


def evaluate(criterion: Criterion, obj: object) -> bool | None:
    """Return what the criterion says of an object by its loaded attributes, None where that cannot be told."""
    compiler: Any = getattr(evaluator, "_EvaluatorCompiler", None) or getattr(evaluator, "EvaluatorCompiler", None)
    if compiler is None:
        return None
    try:
        found: object = compiler(type(obj)).process(criterion)(obj)
    except Exception:  # noqa: BLE001 - whatever cannot be evaluated is left to the database
        return None
    return found if isinstance(found, bool) else None


# -- orphans -------------------------------------------------------------------------------------


def is_orphan(state: AnyState) -> bool:
    """Return whether a flush would delete an object as an orphan."""
    return bool(private(state.mapper)._is_orphan(state))


def is_replaced(relationship: AnyRelationship, child: AnyState) -> bool:
    """Return whether an object that a scalar relationship has lost has no other parent by it."""
    token = private(relationship.class_attribute).impl.parent_token
    return not private(child).parents.get(id(token))


def set_has_parent(parent: AnyState, relationship: AnyRelationship, child: AnyState) -> None:
    """Say that an object has the parent again that it has left."""
    private(parent.manager[relationship.key]).impl.sethasparent(child, parent, True)


def forget_removal(parent: AnyState, key: str, child: object) -> None:
    """Forget that a child was removed from a collection, or was replaced, so that the flush leaves its row alone."""
    committed: Any = parent.committed_state.get(key)
    is_scalar = not private(parent.manager[key]).impl.collection
    if committed is child or (is_scalar and isinstance(committed, LoaderCallableStatus)):
        parent.committed_state[key] = None  # a scalar, which may not have been loaded when it was replaced
    elif isinstance(committed, list):
        members = cast("list[object]", committed)
        parent.committed_state[key] = [each for each in members if each is not child]
    pending: Any = private(parent)._pending_mutations.get(key)
    if pending is not None and child in pending.deleted_items:
        pending.deleted_items.remove(child)
