"""`adopt`: merge objects that other sessions have loaded into one session, without SQL.

``Session.merge(load=False)`` makes a copy of each object, replaces what is loaded in the session, and refuses objects
with changes. Here the objects themselves move into the session. Where the session has an object of that identity
already, it stays, keeps its values and its pending changes, and gets only what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.collections import collection_adapter

from .. import _sqlalchemy
from .._typing import AnyRelationship, AnyState, MappedObject

#: The object that stands for a row in the session, by identity key.
_StandIns: TypeAlias = dict[object, MappedObject]


def adopt(session: Session, results: Sequence[Sequence[Any]], overwritten: Sequence[bool]) -> list[list[Any]]:
    """Return the results with objects of `session`.

    Args:
        session: The session.
        results: What other sessions have loaded, which do not hold it any more. What is no mapped object stays.
        overwritten: For each result, whether its values replace those that the session has: ``populate_existing``.
    """
    found = list(_reachable(results))
    stand_ins: _StandIns = {}
    for state in found:
        if state.key not in stand_ins:
            own: MappedObject = session.identity_map.get(cast("Any", state.key))
            stand_ins[state.key] = state.obj() if own is None else own
    latest = {id(each) for each in _reachable(_chosen(results, overwritten))}
    for state in found:
        own = stand_ins[state.key]
        if own is not state.obj():
            _fill(_sqlalchemy.state_of(own), state, stand_ins, overwrite=id(state) in latest)
    for state in found:
        if stand_ins[state.key] is state.obj():
            _redirect(state, stand_ins)
    for own in stand_ins.values():
        if own not in session:
            session.add(own)
    return [[_standing_for(each, stand_ins) for each in result] for result in results]


def _chosen(results: Sequence[Sequence[Any]], wanted: Sequence[bool]) -> Iterator[Sequence[Any]]:
    return (result for result, each in zip(results, wanted, strict=True) if each)


def _state(value: object) -> AnyState | None:
    """Return the state of an object that has a row; None for anything else."""
    found: Any = inspect(value, raiseerr=False)
    state: AnyState | None = found if isinstance(cast("object", found), InstanceState) else None
    return state if state is not None and state.key is not None else None


def _reachable(results: Iterable[Sequence[Any]]) -> Iterator[AnyState]:
    """Yield the states of the objects, and of those that loaded relationships lead to, each once."""
    todo = [state for result in results for value in result if (state := _state(value)) is not None]
    todo.reverse()
    seen: set[int] = set()
    while todo:
        state = todo.pop()
        if id(state) in seen:
            continue
        seen.add(id(state))
        yield state
        for relation in state.mapper.relationships:
            if relation.key in state.dict:
                todo.extend(_sqlalchemy.state_of(each) for each in _members(state, relation))


def _members(state: AnyState, relation: AnyRelationship) -> list[MappedObject]:
    value = state.dict[relation.key]
    if not relation.uselist:
        return [] if value is None else [value]
    return list(collection_adapter(value))


def _standing_for(value: Any, stand_ins: _StandIns) -> Any:
    state = _state(value)
    return value if state is None else stand_ins.get(state.key, value)


def _replaced(state: AnyState, relation: AnyRelationship, stand_ins: _StandIns) -> Any:
    members = [_standing_for(each, stand_ins) for each in _members(state, relation)]
    if relation.uselist:
        return members
    return members[0] if members else None


def _fill(own: AnyState, loaded: AnyState, stand_ins: _StandIns, *, overwrite: bool) -> None:
    """Give an object of the session what it lacks, or everything."""
    values: dict[str, Any] = {}
    for attribute in loaded.mapper.column_attrs:
        if attribute.key in loaded.dict and _is_wanted(own, attribute.key, overwrite=overwrite):
            values[attribute.key] = loaded.dict[attribute.key]
    for relation in loaded.mapper.relationships:
        if relation.key in loaded.dict and _is_wanted(own, relation.key, overwrite=overwrite):
            values[relation.key] = _replaced(loaded, relation, stand_ins)
    _set(own, values)


def _is_wanted(own: AnyState, key: str, *, overwrite: bool) -> bool:
    if overwrite:
        return True
    # Without a value, and still changed: it was deleted by ``del``. Members that were added to a collection which is
    # not loaded are kept by SQLAlchemy, and appended to what is set.
    changed = _sqlalchemy.changed(own, key) and not _sqlalchemy.has_pending_changes(own, key)
    return key not in own.dict and not changed


def _set(own: AnyState, values: Mapping[str, Any]) -> None:
    if values:
        for key, value in values.items():
            set_committed_value(own.obj(), key, value)
        _sqlalchemy.announce_refresh(own, set(values))


def _redirect(state: AnyState, stand_ins: _StandIns) -> None:
    """Have an object that moves refer to the objects of the session."""
    for relation in state.mapper.relationships:
        if relation.key not in state.dict:
            continue
        members = _members(state, relation)
        if any(_standing_for(each, stand_ins) is not each for each in members):
            set_committed_value(state.obj(), relation.key, _replaced(state, relation, stand_ins))
