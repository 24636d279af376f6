"""Tell where a statement would be sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from sqlalchemy import Executable, TextClause
from sqlalchemy.sql.selectable import SelectBase, TextualSelect

from .._session import SyncSession, resolve_session
from ..exceptions import InvalidArgumentError
from ._pin import pinned_shard
from ._reads import plan_of, values_of
from ._session import routed


@dataclass(frozen=True)
class RoutingPlan:
    """Where a statement would be sent.

    Attributes:
        shards: The shards.
        reason: Why those.
        scatter: Whether there is more than one.
    """

    shards: frozenset[str]
    reason: str
    scatter: bool


def explain(session: SyncSession, statement: Executable) -> RoutingPlan:
    """Return where a SELECT, UPDATE or DELETE would be sent, without executing anything.

    Args:
        session: A session of a sharded factory.
        statement: The statement, with its values.

    Raises:
        CrossShardJoinError: It would be refused with this.
        UnmergeableScatterError: It would be refused with this.
    """
    found = routed(resolve_session(session, "explain"), "explain")
    routing = found.routing
    inner = getattr(statement, "element", statement) if not isinstance(statement, SelectBase) else statement
    pinned = pinned_shard()
    if pinned is not None:
        return RoutingPlan(frozenset((pinned,)), "pinned_to() names it", scatter=False)
    if isinstance(inner, (TextClause, TextualSelect)) or getattr(inner, "is_insert", False):
        raise InvalidArgumentError(
            "explain() takes a SELECT, UPDATE or DELETE; rows of an INSERT are routed one by one"
        )
    plan, parameters = plan_of(routing, cast("Executable", inner))
    shards = plan.shards(values_of(parameters, None), routing)
    if not shards:
        reason = "no shard can have a row for the values of the shard key"
    elif shards == routing.everywhere and len(shards) > 1:
        reason = "the statement says nothing about a shard key"
    elif not plan.groups:
        reason = "it reads reference tables only, which each shard has"
    else:
        reason = "the values of shard keys lead there"
    return RoutingPlan(shards, reason, len(shards) > 1)
