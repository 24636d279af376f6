"""Delete the orphans of relationships with ``delete-orphan`` before the plan of a flush, with what they cascade to.

SQLAlchemy finds these while it sorts the flush, after the last listener that may change anything. A tree has to know
before: what lies below a deleted node depends on it. So they are deleted by `Session.delete`, which does what the flush
would do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, cast

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from .._sqlalchemy import can_be_orphan, has_parent, is_orphan, is_unsaved_orphan, unflushed_removals
from .._typing import AnyMapper, AnyRelationship, MappedObject
from ._tree import find_tree


def delete_orphans(session: Session) -> None:
    """Delete the orphans of this flush that are nodes, or whose deletion may reach nodes.

    No SQL, except what `Session.delete` loads to follow ``cascade="delete"``. The mapper of a class is looked at once.
    """
    roles = _Roles()
    deleted: dict[int, MappedObject] = {id(obj): obj for obj in session.deleted}
    todo: list[MappedObject] = [*session.new, *session.dirty, *deleted.values()]
    seen: set[int] = set()
    while todo := [obj for obj in todo if id(obj) not in seen and roles.of(obj) is not _NO_ROLE]:
        for obj in todo:
            seen.add(id(obj))
            for orphan in _orphans(obj, roles, deleted):
                state = inspect(orphan)
                if state.persistent and state.session is session and id(orphan) not in deleted:
                    session.delete(orphan)
                    deleted.update((id(obj), obj) for obj in session.deleted)
                elif state.pending and is_unsaved_orphan(state):
                    session.expunge(orphan)
        # A deletion cascades to objects whose collections may have changed too.
        todo = list(deleted.values())


def _orphans(obj: MappedObject, roles: _Roles, deleted: Mapping[int, MappedObject]) -> Iterator[MappedObject]:
    """Yield `obj` if it is an orphan, and what has left its relationships and belongs to no other object."""
    state, role = inspect(obj), roles.of(obj)
    if role.may_be_orphan and id(obj) not in deleted and is_orphan(state):
        yield obj
    for rel in role.owned:
        for child in unflushed_removals(state, rel.key):
            if not has_parent(rel, child):
                yield child


class _Role(NamedTuple):
    """What a class has to do with orphans that matter to trees.

    Attributes:
        owned: Its relationships whose former members are deleted.
        may_be_orphan: Whether its own objects are deleted when they lose their owner.
    """

    owned: Sequence[AnyRelationship]
    may_be_orphan: bool


_NO_ROLE: Final = _Role((), may_be_orphan=False)


class _Roles:
    """The roles of classes, found once for each flush: until a later one more classes may be mapped."""

    def __init__(self) -> None:
        self._roles: dict[type[object], _Role] = {}
        self._reaches: dict[AnyMapper, bool] = {}

    def of(self, obj: object) -> _Role:
        """Return the role of the class of `obj`."""
        cls: type[object] = type(obj)
        found = self._roles.get(cls)
        if found is None:
            found = self._roles[cls] = self._find(cast("AnyMapper", inspect(cls)))
        return found

    def _find(self, mapper: AnyMapper) -> _Role:
        owned = [
            rel
            for rel in mapper.relationships
            if rel.cascade.delete_orphan and not rel.viewonly and self._reaches_tree(rel.mapper)
        ]
        may_be_orphan = can_be_orphan(mapper) and self._reaches_tree(mapper)
        return _Role(owned, may_be_orphan) if owned or may_be_orphan else _NO_ROLE

    def _reaches_tree(self, mapper: AnyMapper) -> bool:
        """Return whether objects of `mapper` are nodes, or their deletion cascades to nodes."""
        if mapper not in self._reaches:
            self._reaches[mapper] = any(find_tree(each.class_) is not None for each in _cascades_to(mapper))
        return self._reaches[mapper]


def _cascades_to(mapper: AnyMapper) -> Iterator[AnyMapper]:
    """Yield the mappers to whose objects a deletion may cascade, `mapper` included."""
    seen: set[AnyMapper] = set()
    todo = [mapper]
    while todo:
        at = todo.pop()
        for each in at.self_and_descendants:
            if each in seen:
                continue
            seen.add(each)
            yield each
            todo += [rel.mapper for rel in each.relationships if rel.cascade.delete or rel.cascade.delete_orphan]
