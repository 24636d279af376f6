"""INSERT statements: the rows of each shard in one statement, and what they return in the order of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Insert, inspect
from sqlalchemy.orm import ORMExecuteState

from .._sqlalchemy import has_rows, inserted_rows, is_orm, joined_result, options_of_shard, with_rows
from .._typing import AnyMapper, AnyResult
from ._errors import ShardingError, ShardNotNamedError, UnroutableKeyError
from ._keys import FollowsParent, ShardKey, ShardRule
from ._parents import shards_of_parents
from ._pin import pinned_shard
from ._session import RoutedSession

Row = Mapping[str, Any]


def execute_insert(session: RoutedSession, state: ORMExecuteState, statement: Insert, named: str | None) -> AnyResult:
    """Execute an INSERT on the shards of its rows, and return one result.

    A list of rows takes one statement for each shard and set of columns that are given.

    Raises:
        UnroutableKeyError: A row has no shard. Nothing is inserted then.
        ShardNotNamedError: The rows come from a SELECT, or their class has no rule.
    """
    if named is not None:
        return _invoke(session, state, statement, named)
    routing = session.routing
    table: Any = statement.table
    if routing.is_reference_table(table):
        first, *_ = [_invoke(session, state, statement, shard) for shard in routing.shards.names]
        return first
    pinned = pinned_shard()
    rows = inserted_rows(statement, state.parameters)
    if pinned is not None and rows is None:
        return _invoke(session, state, statement, pinned)
    if rows is None:
        raise ShardNotNamedError(
            f"INSERT INTO {table.name} takes its rows from a SELECT, and nobody can tell their shards; use "
            "bind_arguments={'shard_id': ...} for each shard, or insert() with the rows"
        )
    mapper = _mapper_of(session, state, table)
    rule = None if mapper is None else routing.rule_of(mapper)
    if pinned is not None and rule is None:
        return _invoke(session, state, statement, pinned)
    if mapper is None or rule is None:
        raise ShardNotNamedError(
            f"{table.name} has no rule by which its rows are distributed; give its class a ShardKey or FollowsParent "
            "in keys=, or use bind_arguments={'shard_id': ...}"
        )
    if isinstance(state.parameters, Sequence):
        fixed = inserted_rows(statement, None) or [{}]
        rows = [{**fixed[0], **row} for row in rows]
    shards = _shards_of(session, mapper, rule, rows)
    if pinned is not None and set(shards) != {pinned}:
        raise ShardingError(
            f"Rows of {table.name} belong to the shards {', '.join(sorted(set(shards)))} by {rule.name}, and this "
            f"block is pinned to {pinned!r}; they would not be found again. Insert them outside of pinned_to()"
        )
    if len(rows) == 1 and not isinstance(state.parameters, Sequence):
        return _invoke(session, state, statement, shards[0])
    return _insert_groups(session, state, statement, rows, shards)


def _invoke(session: RoutedSession, state: ORMExecuteState, statement: Insert, shard: str) -> AnyResult:
    with session.on_shard(shard):
        return state.invoke_statement(
            statement,
            bind_arguments={"shard_id": shard},
            execution_options={**options_of_shard(shard), "identity_token": shard},
        )


def _insert_groups(
    session: RoutedSession, state: ORMExecuteState, statement: Insert, rows: Sequence[Row], shards: Sequence[str]
) -> AnyResult:
    returns = bool(statement.exported_columns)
    if returns and isinstance(state.parameters, Sequence):
        statement = statement.returning(sort_by_parameter_order=True)
    by_values = has_rows(statement) and not isinstance(state.parameters, Sequence)
    groups: dict[object, list[int]] = {}
    for place, (row, shard) in enumerate(zip(rows, shards, strict=True)):
        key = shard if by_values else (shard, _given(state, row))
        groups.setdefault(key, []).append(place)
    given: Any = state.parameters
    results: list[tuple[list[int], AnyResult]] = []
    try:
        for places in groups.values():
            changed = with_rows(statement, places) if by_values else statement
            if not by_values:
                state.parameters = [given[place] for place in places]
            results.append((places, _invoke(session, state, changed, shards[places[0]])))
    finally:
        state.parameters = given
    if not returns:
        first, *others = (result for _, result in results)
        return first.merge(*others) if others else first
    back: list[tuple[Any, ...]] = [()] * len(rows)
    for places, result in results:
        for place, found in zip(places, list(result), strict=True):
            back[place] = tuple(found)
    template = results[0][1]
    return joined_result(template, len(list(template.keys())), back, is_single=False, unique=False)


def _given(state: ORMExecuteState, row: Row) -> frozenset[str]:
    """Return the columns of a row that SQLAlchemy puts into an INSERT: the ORM leaves out those that are None."""
    if not is_orm(state.statement) or state.execution_options.get("render_nulls", False):
        return frozenset(row)
    return frozenset(name for name, value in row.items() if value is not None)


def _mapper_of(session: RoutedSession, state: ORMExecuteState, table: object) -> AnyMapper | None:
    if state.bind_mapper is not None:
        mapped: AnyMapper = inspect(state.bind_mapper).mapper
        return mapped
    found = (mapper for rule in session.routing.rules for mapper in rule.mapper.self_and_descendants)
    return next((mapper for mapper in found if mapper.local_table is table), None)


def _shards_of(session: RoutedSession, mapper: AnyMapper, rule: ShardRule, rows: Sequence[Row]) -> list[str]:
    if isinstance(rule, ShardKey):
        column = rule.column
        names = (rule.attribute.key, column.key, column.name)
        default = getattr(column.default, "arg", None) if getattr(column.default, "is_scalar", False) else None
        values = [next((row[name] for name in names if name in row), default) for row in rows]
        return [rule.shard_of(_plain(value, rule.name)) for value in values]
    return shards_of_parents(session, rule, list(_foreign_keys(session, mapper, rule, rows)))


def _foreign_keys(
    session: RoutedSession, mapper: AnyMapper, rule: FollowsParent, rows: Sequence[Row]
) -> Iterator[tuple[Any, ...]]:
    pairs = session.routing.parent_of(rule).pairs
    names = [(mapper.get_property_by_column(local).key, local.key, local.name) for local, _ in pairs]
    for row in rows:
        yield tuple(
            _plain(next((row[each] for each in alternatives if each in row), None), rule.name) for alternatives in names
        )


def _plain(value: Any, key: str) -> Any:
    if hasattr(value, "__clause_element__") or hasattr(value, "compile"):
        raise UnroutableKeyError(value, key, why="it is an SQL expression, whose value only the database knows")
    return value
