"""`SoftDelete`, the mixin for rows that are marked instead of removed, and `restore` and `hard_delete`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

from sqlalchemy import event, inspect, select
from sqlalchemy.orm import InstanceState, Mapped, RelationshipProperty, Session, mapped_column, with_parent

from .._declarative import listen_once, mixin_attr, on_mapped
from .._maintained import deleting_for_good
from .._session import SyncSession, resolve_session
from .._typing import AnyMapper, AnyState, MappedObject
from ..exceptions import InvalidArgumentError, MappingError, StateError
from . import _soft_flush, _soft_statements
from ._moments import DeletedAt
from ._soft_rule import INCLUDE, Deletable, mark, note_mapping
from ._soft_unique import add_living_columns


class SoftDelete(Deletable):
    """A mixin for rows that are marked when they are deleted, and hidden from then on, in every session.

    Adds `deleted_at`, the moment of deletion in UTC, NULL for a row that is not deleted. In a hierarchy of classes the
    mixin belongs to the topmost one.
    """

    @mixin_attr
    def deleted_at(cls) -> Mapped[datetime | None]:
        """When the row was deleted."""
        return mapped_column(DeletedAt(), nullable=True, default=None)

    @mixin_attr
    def _sqla_soft_delete(cls) -> Any:
        on_mapped(cast("type[Any]", cls), table=_check_mapping, constructed=_watch)


def _check_mapping(mapper: AnyMapper) -> None:
    cls, above = mapper.class_, mapper.inherits
    if above is not None and not issubclass(above.class_, Deletable):
        raise MappingError(
            f"{cls.__name__} is SoftDelete and inherits from {above.class_.__name__}, which is not, so that selecting "
            f"{above.class_.__name__} would return deleted rows; put SoftDelete on the topmost class"
        )
    if getattr(getattr(cls, "__tree__", None), "on_delete", None) == "cascade":
        raise MappingError(
            f"{cls.__name__} is SoftDelete and a tree with on_delete='cascade', which removes rows that the session "
            f"never loads; "
            "choose another on_delete, or leave SoftDelete out"
        )


def _watch(mapper: AnyMapper) -> None:
    note_mapping()
    listen_once(Session, "do_orm_execute", _soft_statements.on_execute, insert=True)
    listen_once(Session, "before_flush", _soft_flush.before_flush, insert=True)
    event.listen(mapper, "before_delete", _soft_flush.before_delete)
    add_living_columns(mapper)


def hard_delete(session: SyncSession, obj: object) -> None:
    """Remove the row of an object, and what its deletion cascades to, whether it is marked or not.

    Flushes twice: what else was deleted is marked before. One SELECT for each relationship to soft-deletable objects,
    since those that are marked go too. Nothing can be restored afterwards.

    Raises:
        InvalidArgumentError: `obj` is not a mapped object.
        StateError: It has no row in this session.
    """
    session = resolve_session(session, "hard_delete")
    state = _persistent(session, obj, "hard_delete")
    session.flush()
    with deleting_for_good(session):
        _see_hidden(session, state, set())
        session.delete(obj)
        session.flush()


def _persistent(session: Session, obj: object, function: str) -> AnyState:
    state: AnyState | object = inspect(obj, raiseerr=False)
    if not isinstance(state, InstanceState):
        raise InvalidArgumentError(f"{function}() needs a mapped object and was given {obj!r}; pass one")
    if not state.persistent or state.session is not session:
        raise StateError(
            f"{function}() was given {obj!r}, which has no row in this session; load it with this session first"
        )
    return state  # pyright: ignore[reportUnknownVariableType]


def _see_hidden(session: Session, state: AnyState, seen: set[int]) -> None:
    """Load what a deletion has to see, marked rows included, however it was loaded before."""
    if id(state) in seen:
        return
    seen.add(id(state))
    for relationship in _to_deletable(state.mapper):
        if relationship.lazy not in {"write_only", "dynamic"} and relationship.key in state.dict:
            session.expire(state.obj(), [relationship.key])
        if relationship.cascade.delete and relationship.lazy not in {"write_only", "dynamic", "raise", "raise_on_sql"}:
            found: Any = getattr(state.obj(), relationship.key)
            for child in _members(found, relationship):
                _see_hidden(session, inspect(child), seen)


def _to_deletable(mapper: AnyMapper) -> Iterator[RelationshipProperty[Any]]:
    for relationship in mapper.relationships:
        downwards = not relationship.viewonly and relationship.direction.name != "MANYTOONE"
        if downwards and issubclass(relationship.mapper.class_, Deletable):
            yield relationship


def _members(found: Any, relationship: RelationshipProperty[Any]) -> list[MappedObject]:
    if not relationship.uselist:
        return [] if found is None else [found]
    return list(found.values()) if hasattr(found, "values") else list(found)


def restore(session: SyncSession, obj: SoftDelete) -> None:
    """Bring back a deleted object, and the objects to which its deletion had cascaded.

    One SELECT for each relationship and object that is brought back, and one flush. Loaded collections of these objects
    are loaded again.

    Raises:
        InvalidArgumentError: `obj` is not `SoftDelete`.
        StateError: It is not deleted, or has no row in this session.
    """
    session = resolve_session(session, "restore")
    if not isinstance(cast("object", obj), Deletable):
        raise InvalidArgumentError(
            f"restore() needs an object whose class is SoftDelete and was given {obj!r}; pass one"
        )
    _persistent(session, obj, "restore")
    session.flush()
    stamp = obj.deleted_at
    if stamp is None:
        raise StateError(f"restore() was given {obj!r}, which is not deleted; there is nothing to bring back")
    found: dict[int, MappedObject] = {id(obj): obj}
    todo: list[MappedObject] = [obj]
    while todo:
        for child in _deleted_with(session, todo.pop(), stamp):
            if id(child) not in found:
                found[id(child)] = child
                todo.append(child)
    for each in found.values():
        mark(each, None)
    session.flush()
    for each in found.values():
        state: AnyState = inspect(each)
        loaded = [relationship.key for relationship in _to_deletable(state.mapper) if relationship.key in state.dict]
        if loaded:
            session.refresh(each, loaded)


def _deleted_with(session: Session, obj: MappedObject, stamp: datetime) -> list[MappedObject]:
    found: list[MappedObject] = []
    for relationship in _to_deletable(inspect(obj).mapper):
        if relationship.cascade.delete:
            cls = relationship.mapper.class_
            statement = select(cls).where(cls.deleted_at == stamp, with_parent(obj, relationship.class_attribute))
            found += session.scalars(statement.execution_options(**{INCLUDE: True})).unique().all()
    return found
