"""What a flush is asked to do with the nodes of one tree, whichever way it was said."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.base import NO_VALUE

from ..exceptions import InvalidArgumentError
from ._config import TreeConfig
from ._errors import InvalidMoveError
from ._marks import Mark, mark_of
from ._peek import describe, identity_of, loaded_list
from ._sa import changed, committed

__all__ = ("Link", "Plan", "Token")

Token = tuple[str, Any] | None
"""Tells nodes apart in a flush: ``("pk", key)`` where the key is known, ``("new", id)`` elsewhere, None for what is above roots."""


@dataclass(slots=True, eq=False)
class Link:
    """A node and the parent that it shall have after the flush.

    Attributes:
        pk: key of the node, None until the database makes one.
        parent: the parent object as far as there is one in memory.
        parent_pk: key of the parent; None for a root, and for a parent whose key the database makes.
        new: the node has no row yet.
        moved: a node with a row gets another parent.
        mark: what was said about its place among its siblings.
        at: a position that the user set.
    """

    node: Any
    state: InstanceState[Any]
    pk: Any
    parent: Any
    parent_pk: Any
    new: bool
    moved: bool
    mark: Mark | None
    at: int | None

    @property
    def token(self) -> Token:
        return ("new", id(self.node)) if self.pk is None else ("pk", self.pk)

    @property
    def to_root(self) -> bool:
        return self.parent is None and self.parent_pk is None

    @property
    def parent_token(self) -> Token:
        if self.parent_pk is not None:
            return ("pk", self.parent_pk)
        return None if self.parent is None else ("new", id(self.parent))

    @property
    def parent_exists(self) -> bool:
        """Whether the parent has a row already, so that siblings may be there that nobody has loaded."""
        return self.parent_pk is not None and (self.parent is None or inspect(self.parent).key is not None)


class Plan:
    """Links, deletions and what was read about them, for the steps of the flush to share."""

    def __init__(
        self, session: Session, config: TreeConfig, new: list[Any], dirty: list[Any], deleted: list[Any]
    ) -> None:
        self.session = session
        self.config = config
        self.touched: set[InstanceState[Any]] = set()
        self.deleted = list(deleted)
        new, dirty = self._take_removed(new, dirty)
        self.dirty = dirty
        self.deleted_pks = {identity_of(node) for node in self.deleted}
        self.new_by_pk = {pk: node for node in new if (pk := node.__dict__.get(config.pk_attr)) is not None}
        new.sort(key=lambda node: inspect(node).insert_order)
        dirty.sort(key=lambda node: -1 if (mark := mark_of(node)) is None else mark.order)
        for node in dirty:
            self._drop_doubles(node)
        self.links: list[Link] = []
        self.renamed: list[Any] = []
        for node in new:
            self.links.append(self._link_new(node))
        for node in dirty:
            link = self._link_dirty(node)
            if link is not None:
                self.links.append(link)
            elif config.key_attr is not None and changed(inspect(node), config.key_attr):
                self.renamed.append(node)
        for node in dirty:
            self._link_reordered(node)
        # Links of existing nodes as the database has them, filled in under the lock.
        self.rows: dict[Any, Any] = {}
        # What an index keeps about them, likewise: ``{key: {attribute: value}}``.
        self.kept: dict[Any, dict[str, Any]] = {}
        # Room that newcomers need among their siblings: ``{key of the parent: [(from position, width)]}``.
        self.gaps: dict[Any, list[tuple[int, int]]] = {}
        # The highest position below each parent that gets newcomers, before the flush.
        self.last: dict[Any, int] = {}
        # Whether statements of this transaction may show an older state than the locks, on PostgreSQL.
        self.snapshot_reads = False
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        # Not session.execute(): its hooks and criteria are for the user's statements.
        if self._connection is None:
            self._connection = self.session.connection(bind_arguments={"mapper": self.config.mapper})
        return self._connection

    def loaded(self, pk: Any) -> Any:
        """The object with this key that the session holds, or None."""
        mapper = self.config.mapper
        return self.session.identity_map.get(mapper.identity_key_from_primary_key((pk,)))

    def loaded_nodes(self) -> Iterator[Any]:
        cls = self.config.cls
        return (obj for obj in self.session.identity_map.values() if isinstance(obj, cls))

    def _take_removed(self, new: list[Any], dirty: list[Any]) -> tuple[list[Any], list[Any]]:
        """Delete the nodes that were taken out of a collection and not put anywhere else."""
        gone = False
        for node in new:
            mark = mark_of(node)
            alone = node.__dict__.get("parent") is None and node.__dict__.get("parent_id") is None
            if mark is not None and mark.removed and alone and node in self.session:
                self.session.expunge(node)
                gone = True
        if gone:
            new = [node for node in new if node in self.session]
        kept: list[Any] = []
        for node in dirty:
            mark, state = mark_of(node), inspect(node)
            if (
                mark is not None
                and mark.removed
                and changed(state, "parent")
                and state.dict.get("parent") is None
                and not (changed(state, "parent_id") and state.dict.get("parent_id") is not None)
            ):
                self.session.delete(node)
                self.deleted.append(node)
            else:
                kept.append(node)
        return new, kept

    def _link_new(self, node: Any) -> Link:
        state = inspect(node)
        values = state.dict
        parent, parent_pk = values.get("parent"), values.get("parent_id")
        if parent is not None:
            known = self._pk_of(parent)
            if parent_pk is not None and parent_pk != known:
                raise self._conflict(node, parent, parent_pk)
            parent_pk = known
        elif parent_pk is not None:
            parent = self.new_by_pk.get(parent_pk) or self.loaded(parent_pk)
        return Link(
            node,
            state,
            values.get(self.config.pk_attr),
            self._usable(node, parent, parent_pk),
            parent_pk,
            new=True,
            moved=False,
            mark=mark_of(node),
            at=self._position_said(node, mark_of(node)),
        )

    def _link_dirty(self, node: Any) -> Link | None:
        """The link of a changed node, or None if neither its parent nor its place changed."""
        state = inspect(node)
        values = state.dict
        by_parent, by_key = changed(state, "parent"), changed(state, "parent_id")
        mark = self._mark_of(node)
        if not (by_parent or by_key or mark is not None):
            return None
        before = committed(state, "parent_id", NO_VALUE)
        parent: Any
        if by_parent:
            parent = values.get("parent")
            parent_pk = None if parent is None else self._pk_of(parent)
            if by_key and values["parent_id"] != parent_pk and not self._repeats_old_key(state):
                removed = parent is None and mark is not None and mark.removed
                if not removed and not (self._was_merged(state) and parent_pk == before):
                    raise self._conflict(node, parent, values["parent_id"])
                parent, parent_pk = None, values["parent_id"]
        else:
            # A load, if it is expired: a node that only changes places needs to be told where it is.
            parent_pk = node.parent_id
            parent = None
        if parent is None and parent_pk is not None:
            parent = self.new_by_pk.get(parent_pk) or self.loaded(parent_pk)
        moved = before is NO_VALUE or before != parent_pk or (parent is not None and parent_pk is None)
        if self._was_merged(state) and not moved and (mark is None or mark.at is None):
            return None
        return Link(
            node,
            state,
            identity_of(node),
            self._usable(node, parent, parent_pk),
            parent_pk,
            new=False,
            moved=moved,
            mark=mark,
            at=self._position_said(node, mark),
        )

    def _mark_of(self, node: Any) -> Mark | None:
        mark, state = mark_of(node), inspect(node)
        if mark is not None and mark.at is not None and self._was_merged(state):
            return None if mark.at == committed(state, "position", None) else mark
        return mark

    def _was_merged(self, state: InstanceState[Any]) -> bool:
        """Whether `Session.merge` wrote this object, which sets all attributes, of which most repeat what was there.

        It sets the primary key too; nobody else does.
        """
        return changed(state, self.config.pk_attr)

    def _repeats_old_key(self, state: InstanceState[Any]) -> bool:
        return self._was_merged(state) and state.dict["parent_id"] == committed(state, "parent_id", NO_VALUE)

    def _drop_doubles(self, parent: Any) -> None:
        """Leave one of two places in a list where a child was appended or inserted that was in it already: the new one."""
        children = loaded_list(parent)
        if children is None or not changed(inspect(parent), "children"):
            return
        places: dict[int, list[int]] = defaultdict(list)
        for index, child in enumerate(children):
            places[id(child)].append(index)
        superfluous: set[int] = set()
        for indices in places.values():
            if len(indices) > 1:
                old = next((index for index in indices if _in_order(children, index)), indices[0])
                new = next(index for index in reversed(indices) if index != old)
                superfluous.update(index for index in indices if index != new)
        if superfluous:
            kept = [child for index, child in enumerate(children) if index not in superfluous]
            list[Any].__setitem__(children, slice(None), kept)

    def _link_reordered(self, parent: Any) -> None:
        """Link the children that somebody sorted, reversed or reassigned out of the order of their positions.

        The longest run that is still in order stays; the others are put between them.
        """
        children = loaded_list(parent)
        if self.config.position is None or not children or not changed(inspect(parent), "children"):
            return
        linked = {id(link.node) for link in self.links}
        old = [child for child in children if id(child) not in linked and inspect(child).persistent]
        stay = _increasing([child.position for child in old])
        for index, child in enumerate(old):
            if index not in stay and child.parent_id == self._pk_of(parent):
                pk = identity_of(child)
                self.links.append(
                    Link(
                        child, inspect(child), pk, parent, child.parent_id, new=False, moved=False, mark=Mark(), at=None
                    )
                )

    def _pk_of(self, node: Any) -> Any:
        key = identity_of(node)
        return node.__dict__.get(self.config.pk_attr) if key is None else key

    def _usable(self, node: Any, parent: Any, parent_pk: Any) -> Any:
        """`parent`, unless it is about to go."""
        if parent_pk is not None and parent_pk in self.deleted_pks:
            raise InvalidMoveError(
                f"{describe(node)} cannot go below <{self.config.name} {parent_pk!r}>, which is deleted in the same flush: "
                "move it elsewhere, or delete it too"
            )
        return parent

    def _conflict(self, node: Any, parent: Any, parent_pk: Any) -> InvalidMoveError:
        said = "None" if parent is None else describe(parent)
        return InvalidMoveError(
            f"{describe(node)} has parent = {said} and parent_id = {parent_pk!r}, which are different nodes; set one of them"
        )

    def _position_said(self, node: Any, mark: Mark | None) -> int | None:
        if mark is None or mark.at is None or self.config.position is None:
            return None
        if not isinstance(mark.at, int) or isinstance(mark.at, bool) or mark.at < 0:
            raise InvalidArgumentError(f"position of {describe(node)} must be a number from 0 on, not {mark.at!r}")
        return mark.at


def _increasing(values: Sequence[int]) -> set[int]:
    """Indices of a longest strictly increasing subsequence (patience sorting, Fredman 1975)."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for index, value in enumerate(values):
        at = bisect_left(tails, value)
        before.append(ends[at - 1] if at else -1)
        tails[at : at + 1] = [value]
        ends[at : at + 1] = [index]
    chain: set[int] = set()
    index = ends[-1] if ends else -1
    while index >= 0:
        chain.add(index)
        index = before[index]
    return chain


def _in_order(children: Sequence[Any], index: int) -> bool:
    """Whether a child stands between its neighbours where its position, before this flush, belongs."""
    node = children[index]
    here = node.__dict__.get("position")
    for neighbours, sign in ((reversed(children[:index]), 1), (children[index + 1 :], -1)):
        other = next((child for child in neighbours if child is not node), None)
        there = None if other is None else other.__dict__.get("position")
        if here is None or (there is not None and (here - there) * sign <= 0):
            return False
    return True
