"""Find the lazy loads that form a batch, and let values from the cache take their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy.orm import Session, base

from ._prepare import Prepared

if TYPE_CHECKING:
    from sqlalchemy.orm import PassiveFlag

    from ..._typing import AnyRelationship, AnyState

#: The key of ``session.info`` for what batches of lazy loads have found for attributes that were not read so far:
#: functions that return the value, or `NOT_KEPT` where it does not hold any more, by state and attribute name.
KEPT: Final = "_sqla_patterns_cache_kept"
NOT_KEPT: Final = object()


class KeptAttribute:
    """The loader of an attribute that is not loaded, for which the session may have a kept value when it is read.

    It holds no value itself, since it goes with the object into other sessions, and into pickles.

    Attributes:
        key: The name of the attribute.
        before: The loader that the object had for this attribute before, if it had one.
    """

    def __init__(self, key: str, before: Callable[..., object] | None) -> None:
        self.key: Final = key
        self.before: Final = before

    @classmethod
    def put(cls, state: AnyState, key: str) -> None:
        """Make an object look for a kept value before it loads an attribute."""
        if "callables" not in state.__dict__:
            state.callables = {}
        before = state.callables.get(key)
        if not isinstance(before, cls):
            state.callables[key] = cls(key, before)

    @classmethod
    def remove(cls, state: AnyState, key: str) -> None:
        """Make an object load an attribute as it did before."""
        found = state.callables.get(key)
        if isinstance(found, cls):
            if found.before is None:
                del state.callables[key]
            else:
                state.callables[key] = found.before

    def __call__(self, state: AnyState, passive: PassiveFlag) -> object:
        """Return the value of the attribute, kept or loaded, as SQLAlchemy's loaders do."""
        self.remove(state, self.key)
        fetches = bool(passive & base.PassiveFlag.SQL_OK)
        session = state.session
        if fetches and session is not None:
            kept = session.info.get(KEPT, {}).pop((state, self.key), None)
            value: object = NOT_KEPT if kept is None else kept(passive)
            if value is not NOT_KEPT:
                return value
        found: object = cast("Any", state.get_impl(self.key)).get(state, state.dict, passive)
        if self.key in state.dict:
            return base.ATTR_WAS_SET
        if not fetches:
            self.put(state, self.key)
        return found if found is base.PASSIVE_NO_RESULT or found is base.NO_VALUE else base.ATTR_EMPTY


def autoflush(session: Session, passive: PassiveFlag) -> None:
    """Flush as a lazy load does before it queries the database."""
    if session.autoflush and not passive & base.PassiveFlag.NO_AUTOFLUSH:
        cast("Any", session)._autoflush()


def in_identity_map(prop: AnyRelationship, state: AnyState) -> bool:
    """Return whether a lazy load would take the object from the session, whether or not it has to be refreshed."""
    strategy = _lazy_loader(prop)
    if not strategy.use_get:
        return False
    session = cast("Session", state.session)
    identity = strategy._get_ident_for_use_get(session, state, base.PASSIVE_NO_FETCH)
    if any(value is None or isinstance(value, base.LoaderCallableStatus) for value in identity):
        return True
    key = strategy.mapper.identity_key_from_primary_key(identity, identity_token=state.identity_token)
    return key in session.identity_map


def loaded_together(session: Session, lazy: AnyState, prop: AnyRelationship) -> list[AnyState]:
    """Return the objects that were loaded together with ``lazy`` and do not have the attribute yet.

    Each load of the ORM has a number, which is kept in the objects that it loaded. A second call for the same load and
    attribute returns no objects: what the first one did not find is not there.
    """
    asked: set[tuple[int, AnyRelationship]] = session.info.setdefault("_sqla_patterns_cache_asked", set())
    run: int | None = lazy.runid
    if run is None or (run, prop) in asked:
        return []
    if len(asked) > 1000:  # old loads
        asked.clear()
    asked.add((run, prop))
    key = str(prop.key)
    found: list[AnyState] = []
    for state in session.identity_map.all_states():
        if state is lazy or state.runid != run or state.expired or key in state.dict:
            continue
        if state.load_options != lazy.load_options or state.load_path != lazy.load_path:
            continue
        if state.identity_token != lazy.identity_token:
            continue  # of another shard, where the same key belongs to another row
        # Not by name: two subclasses may have an attribute of one name that leads to different tables.
        if state.mapper.relationships.get(key) is prop:
            found.append(state)
    return found


def lazy_parameters(prop: AnyRelationship, state: AnyState) -> Mapping[str, object] | None:
    """Return the parameters with which an attribute would be loaded lazily; None where that takes no statement."""
    strategy = _lazy_loader(prop)
    parameters: dict[str, object]
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


def _lazy_loader(prop: AnyRelationship) -> Any:
    return cast("Any", prop)._get_strategy((("lazy", "select"),))


def multiplies_rows(prepared: Prepared) -> bool:
    """Return whether the statement has several rows for one object, because of an eager join."""
    state: Any = prepared.compiled.compile_state
    return state is None or bool(state.multi_row_eager_loaders) or len(state._entities) != 1
