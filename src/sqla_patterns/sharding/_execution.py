"""Send a statement to its shards: the ``do_orm_execute`` listener of a sharded session, from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

from sqlalchemy import Delete, Executable, Insert, TextClause, Update, inspect
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql.selectable import TextualSelect

from .._sqlalchemy import returns_single_entities
from .._typing import AnyResult, AnySelect
from ._concurrent import execute_on
from ._errors import ShardNotNamedError, UnmergeableScatterError
from ._inserts import execute_insert
from ._kinds import SELECT, SELECT_BASE
from ._merge import Reading, empty, empty_aggregate, has_aggregates, merge, merge_concat
from ._reads import check_scatter, in_order, named_shard, shards_of_statement
from ._session import RoutedSession
from ._updates import execute_update

_MERGE = "shard_merge"


def execute(state: ORMExecuteState) -> AnyResult:
    """Execute a statement on the shards that it concerns, and return one result."""
    session = cast("RoutedSession", state.session)
    named = named_shard(state)
    if named is not None and not state.is_insert:
        return invoke(state, named)
    if state.is_select:
        return _read(session, state)
    if state.is_insert:
        return execute_insert(session, state, cast("Insert", state.statement), named)
    if isinstance(state.statement, (Update, Delete)):
        return execute_update(session, state, state.statement, session.pinned_shard)
    return _on_pinned(state, session.pinned_shard)


def invoke(state: ORMExecuteState, shard: str, statement: Executable | None = None) -> AnyResult:
    """Execute a statement, that of the user's unless another is given, on one shard.

    Listeners that are called after that of the session, as those that write histories, find themselves on this shard.
    """
    session = cast("RoutedSession", state.session)
    with nullcontext() if state.is_select else session.on_shard(shard):
        return state.invoke_statement(
            statement, bind_arguments={"shard_id": shard}, execution_options={"identity_token": shard}
        )


def _on_pinned(state: ORMExecuteState, pinned: str | None) -> AnyResult:
    if pinned is None:
        raise ShardNotNamedError(
            f"Nobody can tell which shard {str(state.statement)[:100]!r} is for; use pinned_to(...) or "
            "execute(..., bind_arguments={'shard_id': ...})"
        )
    return invoke(state, pinned)


def _read(session: RoutedSession, state: ORMExecuteState) -> AnyResult:
    routing = session.routing
    lazy = state.lazy_loaded_from
    if lazy is not None and lazy.identity_token is not None:
        mapper = state.bind_mapper
        if mapper is not None and routing.is_reference(inspect(mapper).mapper):
            return invoke(state, routing.home)
        return invoke(state, str(lazy.identity_token))
    pinned = session.pinned_shard
    if pinned is not None:
        return invoke(state, pinned)
    statement: Any = state.statement
    inner = statement
    if not isinstance(statement, SELECT):
        if statement.__visit_name__ == "orm_from_statement":
            inner = statement.element
        if isinstance(inner, (TextClause, TextualSelect)) or not isinstance(inner, SELECT_BASE):
            return _on_pinned(state, None)
    concat = state.execution_options.get(_MERGE, routing.merge) == "concat"
    if routing.choosers.execute_chooser is not None:
        shards = frozenset(routing.choosers.execute_chooser(state))
    elif concat:
        shards = _unchecked(session, cast("Executable", inner), state.parameters)
    else:
        shards = shards_of_statement(routing, cast("Executable", inner), state.parameters)
    if len(shards) == 1:
        (shard,) = shards
        return invoke(state, shard)
    if not shards:
        return _answer_of_none(session, state, inner)
    check_scatter(session, shards, state.statement)
    ordered = in_order(routing, shards)
    if not concat and not isinstance(statement, SELECT):
        raise UnmergeableScatterError(
            f"{type(statement).__name__} for the shards {', '.join(ordered)} cannot be put together; use select(), or "
            "execution_options(shard_merge='concat')"
        )
    reading = Reading(
        cast("AnySelect", statement),
        dict(state.parameters) if isinstance(state.parameters, Mapping) else {},
        lambda changed: execute_on(session, ordered, lambda shard: invoke(state, shard, changed)),
        lambda: session.connection_to(ordered[0]),
        routing.shards,
        _is_single(state, statement),
        state.execution_options.get("yield_per"),
    )
    return merge_concat(reading) if concat else merge(reading)


def _unchecked(session: RoutedSession, statement: Executable, parameters: object) -> frozenset[str]:
    """Return the shards of a statement whose answers the user puts together."""
    try:
        return shards_of_statement(session.routing, statement, parameters)
    except UnmergeableScatterError:
        return session.routing.everywhere


def _answer_of_none(session: RoutedSession, state: ORMExecuteState, statement: Any) -> AnyResult:
    if isinstance(statement, SELECT) and has_aggregates(statement):
        # No row has the value on any shard, so that one of them knows the answer as well.
        return empty_aggregate(statement) or invoke(state, session.routing.home)
    return empty(state.statement)


def _is_single(state: ORMExecuteState, statement: Any) -> bool:
    described = getattr(statement, "column_descriptions", [])
    single = len(described) == 1 and described[0].get("entity") is described[0].get("expr")
    return single and state.is_orm_statement and returns_single_entities(state)
