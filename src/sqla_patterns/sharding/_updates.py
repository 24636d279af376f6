"""UPDATE and DELETE statements: to the shards that their conditions leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Delete, Update, inspect
from sqlalchemy.orm import ORMExecuteState

from .._sqlalchemy import is_limited, no_rows, set_keys
from .._typing import AnyMapper, AnyResult
from ._errors import ShardKeyChangedError, UnmergeableScatterError
from ._keys import FollowsParent, ShardKey
from ._kinds import BIND
from ._parents import shards_of_rows
from ._reads import check_scatter, in_order, shards_of_statement
from ._routing import Routing
from ._session import RoutedSession


def execute_update(
    session: RoutedSession, state: ORMExecuteState, statement: Update | Delete, pinned: str | None
) -> AnyResult:
    """Execute an UPDATE or DELETE on its shards, and return one result with the sum of the row counts."""
    routing = session.routing
    if isinstance(state.parameters, Sequence) and pinned is None:
        return _update_by_key(session, state, statement)
    if routing.choosers.execute_chooser is not None:
        shards = frozenset(routing.choosers.execute_chooser(state))
    elif pinned is not None:
        shards = frozenset((pinned,))
    else:
        shards = shards_of_statement(routing, statement, state.parameters)
    if isinstance(statement, Update):
        _check_keys(routing, state, statement, shards)
    if routing.is_reference_table(cast("Any", statement.table)) and pinned is None:
        # Each shard changes the same rows; one of them is counted.
        first, *_ = [_invoke(state, shard) for shard in routing.shards.names]
        return first
    if not shards:
        returning: Any = getattr(statement, "exported_columns", ())
        return no_rows([str(each.key) for each in returning])
    if len(shards) > 1 and is_limited(statement):
        raise UnmergeableScatterError(
            f"UPDATE or DELETE with LIMIT for the shards {', '.join(sorted(shards))} would change up to that many rows "
            "on each; hold it to one shard"
        )
    check_scatter(session, shards, statement)
    results = [_invoke(state, shard) for shard in in_order(routing, shards)]
    return results[0].merge(*results[1:]) if len(results) > 1 else results[0]


def _invoke(state: ORMExecuteState, shard: str) -> AnyResult:
    with cast("RoutedSession", state.session).on_shard(shard):
        return state.invoke_statement(bind_arguments={"shard_id": shard}, execution_options={"identity_token": shard})


def _check_keys(routing: Routing, state: ORMExecuteState, statement: Update, shards: frozenset[str]) -> None:
    """Refuse an UPDATE that would have to take rows to another shard."""
    mapper = state.bind_mapper
    if mapper is None:
        tables = {rule.mapper.local_table: rule.mapper for rule in routing.rules}
        mapper = tables.get(cast("Any", statement.table))
        if mapper is None:
            return
    rule = routing.rule_of(inspect(mapper).mapper)
    given = set_keys(statement, state.parameters)
    if isinstance(rule, ShardKey):
        names = {rule.attribute.key, rule.column.key, rule.column.name}
        for name, value in given.items():
            if name in names:
                value = value.effective_value if isinstance(value, BIND) else value
                plain = not hasattr(value, "__clause_element__") and not hasattr(value, "compile")
                if not plain or any(rule.shard_of(value) != shard for shard in shards):
                    raise ShardKeyChangedError(
                        f"UPDATE sets {rule.name}, by which rows are distributed; move() takes an object to its new "
                        "shard, and delete() and insert() take many"
                    )
    elif isinstance(rule, FollowsParent):
        names = {name for local, _ in routing.parent_of(rule).pairs for name in (local.key, local.name)}
        if names & set(given):
            raise ShardKeyChangedError(
                f"UPDATE sets the foreign key of {rule.name}, by which rows find their shard; change objects instead"
            )


def _update_by_key(session: RoutedSession, state: ORMExecuteState, statement: Update | Delete) -> AnyResult:
    """Execute an UPDATE of many rows by primary key: a statement for each shard, after rows have been looked for."""
    routing = session.routing
    given = cast("Sequence[Mapping[str, Any]]", state.parameters)
    mapper = state.bind_mapper
    own: AnyMapper | None = None if mapper is None else inspect(mapper).mapper
    if own is None or not isinstance(statement, Update):
        raise UnmergeableScatterError(
            f"{type(statement).__name__} of a table with a list of parameters cannot be divided between shards; use "
            "the mapped class, or a statement for each shard with bind_arguments={'shard_id': ...}"
        )
    rule = routing.rule_of(own)
    if isinstance(rule, ShardKey) and any(rule.attribute.key in row for row in given):
        raise ShardKeyChangedError(
            f"UPDATE sets {rule.name}, by which rows are distributed; leave it out, or use move()"
        )
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row, shard in zip(given, shards_of_rows(session, own, given), strict=True):
        groups.setdefault(shard, []).append(row)
    results: list[AnyResult] = []
    for shard in in_order(routing, groups):
        state.parameters = groups[shard]
        results.append(_invoke(state, shard))
    return results[0].merge(*results[1:]) if len(results) > 1 else results[0]
