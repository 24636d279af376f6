"""Lazy loads: which objects belong together, and with which parameters each would be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.orm import Session, base

from ._prepare import Prepared

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, RelationshipProperty

__all__ = (
    "lazy_parameters",
    "loaded_together",
    "multiplies_rows",
)


def loaded_together(session: Session, lazy: InstanceState[Any], key: str) -> list[InstanceState[Any]]:
    """The objects that came with ``lazy`` and do not have the attribute yet, once for each load and attribute.

    Every load of the ORM has a number, which the objects carry that it loaded. A second call for the same load finds none: what
    the first one did not find is not there.
    """
    asked: set[tuple[int, str]] = session.info.setdefault("_sqla_patterns_cache_asked", set())
    run: int | None = lazy.runid
    if run is None or (run, key) in asked:
        return []
    if len(asked) > 1000:  # old loads
        asked.clear()
    asked.add((run, key))
    found: list[InstanceState[Any]] = []
    for state in session.identity_map.all_states():
        if state is lazy or state.runid != run or state.expired or key in state.dict:
            continue
        if state.load_options != lazy.load_options or state.load_path != lazy.load_path:
            continue
        if state.identity_token != lazy.identity_token:
            continue  # of another shard, where the same key is somebody else's
        if key in state.mapper.relationships:
            found.append(state)
    return found


def lazy_parameters(prop: RelationshipProperty[Any], state: InstanceState[Any]) -> Mapping[str, Any] | None:
    """The parameters with which the attribute of an object would be loaded lazily; None where that takes no statement."""
    strategy: Any = cast("Any", prop)._get_strategy((("lazy", "select"),))
    parameters: dict[str, Any]
    if strategy.use_get:
        session = cast("Session", state.session)
        passive = base.PASSIVE_NO_FETCH
        identity = strategy._get_ident_for_use_get(session, state, passive)
        _, by_column = strategy.mapper._get_clause
        parameters = {
            by_column[column].key: value for column, value in zip(strategy.mapper.primary_key, identity, strict=True)
        }
    else:
        parameters = strategy._generate_lazy_clause(state, base.PASSIVE_NO_FETCH)[1]
    missing = any(value is None or isinstance(value, base.LoaderCallableStatus) for value in parameters.values())
    return None if missing else parameters


def multiplies_rows(prepared: Prepared) -> bool:
    """Whether the statement has several rows for one object, because of an eager join."""
    state: Any = prepared.compiled.compile_state
    return state is None or bool(state.multi_row_eager_loaders) or len(state._entities) != 1
