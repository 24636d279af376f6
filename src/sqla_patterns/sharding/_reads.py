"""Which shards a read is sent to."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import BindParameter, Executable
from sqlalchemy.ext.horizontal_shard import set_shard_id
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql import visitors

from .._sqlalchemy import form_of, loaded_shard, options_of
from .._typing import AnyMapper, AnyState
from ._analysis import analyse
from ._conditions import IdKey, RuleKey
from ._errors import ScatterForbiddenError, ScatterWarning
from ._kinds import BIND
from ._pin import pinned_shard
from ._plans import ReadPlan
from ._routing import Routing, names_of
from ._session import RoutedSession


def named_shard(state: ORMExecuteState) -> str | None:
    """Return the shard that was named for a statement, or that a load of SQLAlchemy's belongs to."""
    for option in options_of(state.statement):
        if isinstance(option, set_shard_id):
            return option.shard_id
    if not state.is_insert:
        shard = loaded_shard(state)
        if shard is not None:
            return shard
    found = state.bind_arguments.get("shard_id")
    if found is None:
        options = state.execution_options
        found = options.get("_sa_shard_id") or options.get("identity_token")
    return found


def plan_of(routing: Routing, statement: Executable) -> tuple[ReadPlan, Sequence[BindParameter[Any]]]:
    """Return the plan of a statement, with the parameters whose values it takes."""
    form = form_of(statement)
    if form is None:
        elements: Any = visitors.iterate(cast("Any", statement))
        found: list[BindParameter[Any]] = [each for each in elements if isinstance(each, BIND)]
        return analyse(statement, routing, _places(found)), found
    key, parameters = form
    plans = routing.plans
    plan = plans.get(key)
    if plan is None:
        plan = plans[key] = analyse(statement, routing, _places(parameters))
        while len(plans) > routing.most_plans:
            try:
                plans.popitem(last=False)
            except KeyError:  # another thread was faster
                break
    return plan, parameters


def shards_of_statement(routing: Routing, statement: Executable, given: object) -> frozenset[str]:
    """Return the shards that a statement has to be sent to.

    Args:
        routing: The rules.
        statement: A SELECT, UPDATE or DELETE.
        given: The parameters of the execution.
    """
    plan, parameters = plan_of(routing, statement)
    return plan.shards(values_of(parameters, given), routing)


def values_of(parameters: Sequence[BindParameter[Any]], given: object) -> Callable[[int], Any]:
    """Return what gives the value of a parameter by its place."""
    mapping: Any = Mapping
    by_name: Any = given if isinstance(given, mapping) else {}

    def value(place: int) -> Any:
        parameter = parameters[place]
        if by_name and parameter.key in by_name:
            return by_name[parameter.key]
        return parameter.effective_value

    return value


def shards_of_identity(
    routing: Routing,
    mapper: AnyMapper,
    primary_key: Any,
    lazy_loaded_from: AnyState | None,
    execution_options: Mapping[str, Any],
    bind_arguments: Mapping[str, Any],
) -> Sequence[str]:
    """Return the shards that may have an object, by its primary key."""
    named = (
        bind_arguments.get("shard_id")
        or execution_options.get("_sa_shard_id")
        or execution_options.get("identity_token")
    )
    if named is not None:
        return [named]
    if routing.is_reference(mapper):
        return [routing.home]
    if lazy_loaded_from is not None and lazy_loaded_from.identity_token is not None:
        return [str(lazy_loaded_from.identity_token)]
    pinned = pinned_shard()
    if pinned is not None:
        return [pinned]
    many: Any = (tuple, list)
    values = primary_key if isinstance(primary_key, many) else (primary_key,)
    left = routing.everywhere
    for column, value in zip(mapper.primary_key, values, strict=False):
        key = routing.key_columns.get(column)
        if isinstance(key, (RuleKey, IdKey)) and (found := key.find(value)) is not None:
            left &= found
    return in_order(routing, left)


def in_order(routing: Routing, shards: Collection[str]) -> list[str]:
    """Return shards in the order in which the factory has them."""
    return [each for each in routing.shards.names if each in shards]


def check_scatter(session: RoutedSession, shards: Collection[str], statement: Executable) -> None:
    """Apply the policy of the factory to a statement for several shards.

    Raises:
        ScatterForbiddenError: It forbids them.
    """
    policy = session.routing.scatter
    if len(shards) < 2 or policy == "allow":
        return
    text = f"A statement needs the shards {names_of(shards)}: {str(statement)[:200]}"
    if policy == "forbid":
        raise ScatterForbiddenError(f"{text}; add a condition on the shard key, or use pinned_to()")
    warnings.warn(text, ScatterWarning, stacklevel=2)


def _places(parameters: Sequence[BindParameter[Any]]) -> dict[str, int]:
    return {str(each.key): place for place, each in enumerate(parameters)}
