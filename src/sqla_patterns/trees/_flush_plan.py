"""The plan of one flush for one tree: which nodes get which parent, and which are deleted.

The user may say the same move in several ways (``parent``, ``parent_id``, a collection, `move_to`). `FlushPlan`
resolves each new or changed node to one `ParentLink`. The later steps of the flush read the plan, and note in it what
the database has.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import Connection, inspect, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.base import NO_VALUE

from .._sql import structural
from .._sqlalchemy import changed, committed, objects_in_session
from .._typing import AnyState, MappedObject, PrimaryKey
from ..exceptions import InvalidArgumentError
from ._config import ColumnValues, TreeConfig
from ._errors import InvalidMoveError
from ._loaded_children import replace_list
from ._loaded_state import describe, known_pk, loaded_list, loaded_node, pk_of
from ._placement_hints import PlacementHint, hint_of

#: Tells nodes apart in a flush: ``("pk", key)`` where the primary key is known, ``("new", id)`` elsewhere, and None for
#: the parent of roots.
Token: TypeAlias = tuple[str, PrimaryKey] | None


@dataclass(slots=True, eq=False)
class ParentLink:
    """A node and the parent that it shall have after the flush.

    Attributes:
        node: The node.
        state: Its `InstanceState`.
        pk: The primary key of the node, None until the database makes one.
        parent: The parent object as far as there is one in memory.
        parent_pk: The primary key of the parent; None for a root, and for a parent whose key the database makes.
        new: Whether the node has no row yet.
        moved: Whether a node with a row gets another parent.
        hint: What was said about its place among its siblings.
        position: A position that the user set.
        asks_for_place: Whether a place among the siblings was asked for. Where it was not, a node that has this parent
            already stays as it is, which shows under the lock where the row is not known.
        parent_unknown: Whether the present parent is not known, so that it may be this one.
    """

    node: MappedObject
    state: AnyState
    pk: PrimaryKey
    parent: MappedObject
    parent_pk: PrimaryKey
    new: bool
    moved: bool
    hint: PlacementHint | None
    position: int | None
    asks_for_place: bool = True
    parent_unknown: bool = False

    @property
    def token(self) -> Token:
        """Return what stands for the node."""
        return ("new", id(self.node)) if self.pk is None else ("pk", self.pk)

    @property
    def to_root(self) -> bool:
        """Return whether the node shall be a root."""
        return self.parent is None and self.parent_pk is None

    @property
    def parent_token(self) -> Token:
        """Return what stands for the parent."""
        if self.parent_pk is not None:
            return ("pk", self.parent_pk)
        return None if self.parent is None else ("new", id(self.parent))

    @property
    def parent_exists(self) -> bool:
        """Return whether the parent has a row already, so that it may have children that are not loaded."""
        return self.parent_pk is not None and (self.parent is None or inspect(self.parent).key is not None)


class FlushPlan:
    """What one flush does to one tree.

    Attributes:
        session: The session that is flushed.
        config: The tree.
        links: The new and moved nodes, and those that get another place among their siblings.
        unmoved: Nodes that were given the parent that they have, with its primary key.
        renamed: Nodes of a `KeyedTreeNode` that have no link and a new key.
        dirty: The changed nodes.
        deleted: The deleted nodes.
        deleted_pks: Their primary keys.
        new_by_pk: New nodes whose primary key is known.
        states_to_expire: States that a rollback has to expire.
        stored_parents: ``{primary key: that of the parent}`` of existing nodes as the database has them, read under the
            lock.
        stored_values: Their positions, and what an index keeps about them, likewise.
        gaps: The space that new children need among their siblings:
            ``{primary key of the parent: [(from position, width)]}``.
        last_positions: The highest position below each parent that gets children, before the flush.
        claimed_parents: The primary keys of the nodes whose lists of children are claimed when the flush writes.
        claims_roots: Whether the list of roots is claimed then.
        parents_to_order: Parents whose loaded children have to be put into the order of the database after the flush.
        snapshot_reads: Whether statements of this transaction may show an older state than the locks, on PostgreSQL.
    """

    def __init__(
        self,
        session: Session,
        config: TreeConfig,
        new: list[MappedObject],
        dirty: list[MappedObject],
        deleted: list[MappedObject],
    ) -> None:
        self.session = session
        self.config = config
        self._connection: Connection | None = None
        self.states_to_expire: set[AnyState] = set()
        self.deleted = list(deleted)
        new, dirty = self._take_removed(new, dirty)
        self.dirty = dirty
        self.deleted_pks = {pk_of(node) for node in self.deleted}
        self.new_by_pk = {pk: node for node in new if (pk := node.__dict__.get(config.pk_attr)) is not None}
        new.sort(key=lambda node: inspect(node).insert_order)
        dirty.sort(key=lambda node: -1 if (hint := hint_of(node)) is None else hint.order)
        for node in dirty:
            self._drop_duplicates(node)
        self.links: list[ParentLink] = []
        self.unmoved: list[tuple[MappedObject, PrimaryKey]] = []
        self.renamed: list[MappedObject] = []
        for node in new:
            self.links.append(self._link_new(node))
        for node in dirty:
            link = self._link_dirty(node)
            if link is not None:
                self.links.append(link)
            else:
                self.note_renamed(node)
        for node in dirty:
            self._link_reordered(node)
        self.stored_parents: dict[PrimaryKey, PrimaryKey] = {}
        self.stored_values: dict[PrimaryKey, ColumnValues] = {}
        self.gaps: dict[PrimaryKey, list[tuple[int, int]]] = {}
        self.last_positions: dict[PrimaryKey, int] = {}
        self.claimed_parents: set[PrimaryKey] = set()
        self.claims_roots = False
        self.parents_to_order: list[MappedObject] = []
        self.snapshot_reads = False

    @property
    def connection(self) -> Connection:
        """Return the connection of the tree."""
        # Not session.execute(): its hooks and criteria are for the user's statements.
        if self._connection is None:
            self._connection = self.session.connection(bind_arguments={"mapper": self.config.mapper})
        return self._connection

    @property
    def replaced_pks(self) -> set[PrimaryKey]:
        """Return the primary keys that this flush takes from a deleted node and gives to a new one."""
        return self.deleted_pks & self.new_by_pk.keys()

    def loaded_node(self, pk: PrimaryKey) -> MappedObject:
        """Return the node with this primary key that the session holds, or None."""
        return loaded_node(self.session, self.config, pk)

    def loaded_nodes(self) -> Sequence[MappedObject]:
        """Return all nodes of the tree that the session holds."""
        return objects_in_session(self.session, self.config.cls)

    def note_renamed(self, node: MappedObject) -> None:
        """Remember a node that has no link, if it has a new key."""
        if self.config.key_attr is not None and changed(inspect(node), self.config.key_attr):
            self.renamed.append(node)

    def requested_position(self, node: MappedObject, hint: PlacementHint | None) -> int | None:
        """Return the position that `hint` says, checked.

        Raises:
            InvalidArgumentError: It is no number from 0 on.
        """
        if hint is None or hint.position is None or self.config.position is None:
            return None
        if not isinstance(hint.position, int) or isinstance(hint.position, bool) or hint.position < 0:
            raise InvalidArgumentError(
                f"position of {describe(node)} must be a number from 0 on, not {hint.position!r}"
            )
        return hint.position

    def _object_of(self, pk: PrimaryKey) -> MappedObject:
        """Return the object with this primary key, new or loaded; a node may be falsy."""
        new = self.new_by_pk.get(pk)
        return self.loaded_node(pk) if new is None else new

    def _take_removed(
        self, new: list[MappedObject], dirty: list[MappedObject]
    ) -> tuple[list[MappedObject], list[MappedObject]]:
        """Delete the nodes that were taken out of a collection and not put anywhere else; return the other ones."""
        gone = False
        for node in new:
            hint = hint_of(node)
            alone = node.__dict__.get("parent") is None and node.__dict__.get("parent_id") is None
            if hint is not None and hint.removed and alone and node in self.session:
                self.session.expunge(node)
                gone = True
        if gone:
            new = [node for node in new if node in self.session]
        kept: list[MappedObject] = []
        for node in dirty:
            hint, state = hint_of(node), inspect(node)
            if (
                hint is not None
                and hint.removed
                and changed(state, "parent")
                and state.dict.get("parent") is None
                and not (changed(state, "parent_id") and state.dict.get("parent_id") is not None)
            ):
                self.session.delete(node)
                self.deleted.append(node)
            else:
                kept.append(node)
        return new, kept

    def _link_new(self, node: MappedObject) -> ParentLink:
        state = inspect(node)
        values = state.dict
        parent, parent_pk = values.get("parent"), values.get("parent_id")
        if parent is not None:
            known = known_pk(self.config, parent)
            if parent_pk is not None and parent_pk != known:
                raise _conflict(node, parent, parent_pk)
            parent_pk = known
        elif parent_pk is not None:
            parent = self._object_of(parent_pk)
        self._refuse_deleted_parent(node, parent_pk)
        return ParentLink(
            node,
            state,
            values.get(self.config.pk_attr),
            parent,
            parent_pk,
            new=True,
            moved=False,
            hint=hint_of(node),
            position=self.requested_position(node, hint_of(node)),
        )

    def _link_dirty(self, node: MappedObject) -> ParentLink | None:
        """Return the link of a changed node, or None if neither its parent nor its place changed."""
        state = inspect(node)
        values = state.dict
        by_parent, by_key = changed(state, "parent"), changed(state, "parent_id")
        hint = self._hint_of(node)
        if not (by_parent or by_key or hint is not None):
            return None
        before = committed(state, "parent_id", NO_VALUE)
        parent: MappedObject
        if by_parent:
            parent = values.get("parent")
            parent_pk = None if parent is None else known_pk(self.config, parent)
            if by_key and values["parent_id"] != parent_pk and not self._repeats_old_key(state):
                removed = parent is None and hint is not None and hint.removed
                if not removed and not (self._was_merged(state) and parent_pk == before):
                    raise _conflict(node, parent, values["parent_id"])
                parent, parent_pk = None, values["parent_id"]
        else:
            # A load, if it is expired: a node that only changes places needs to be told where it is.
            parent_pk = node.parent_id
            parent = None
            if not by_key:
                before = parent_pk
        if parent is None and parent_pk is not None:
            parent = self._object_of(parent_pk)
        asks_for_place = self._asks_for_place(state, hint)
        if before is NO_VALUE and not asks_for_place and parent_pk is not None and parent_pk in self.deleted_pks:
            # Whether it is to go below a node that is deleted, or lies there, decides what happens.
            before = self._stored_parent(pk_of(node))
        moved = before is NO_VALUE or before != parent_pk or (parent is not None and parent_pk is None)
        if not moved and not asks_for_place:
            self.unmoved.append((node, parent_pk))
            if hint is not None:
                self._put_back(node, parent)
            return None
        self._refuse_deleted_parent(node, parent_pk)
        return ParentLink(
            node,
            state,
            pk_of(node),
            parent,
            parent_pk,
            new=False,
            moved=moved,
            hint=hint,
            position=None if moved and hint is not None and hint.assigned else self.requested_position(node, hint),
            asks_for_place=asks_for_place,
            parent_unknown=before is NO_VALUE,
        )

    def _hint_of(self, node: MappedObject) -> PlacementHint | None:
        hint, state = hint_of(node), inspect(node)
        if hint is not None and hint.position is not None and self._was_merged(state):
            return None if hint.position == committed(state, "position", None) else hint
        return hint

    def _asks_for_place(self, state: AnyState, hint: PlacementHint | None) -> bool:
        if hint is None:
            return False
        if hint.position is not None:
            return bool(hint.position != committed(state, "position", NO_VALUE))
        return hint.asks_for_place and not self._was_merged(state)

    def _stored_parent(self, pk: PrimaryKey) -> PrimaryKey:
        config = self.config
        return self.connection.scalar(structural(select(config.parent_id).where(config.pk == pk)))

    def _put_back(self, node: MappedObject, parent: MappedObject) -> None:
        """Put a node that was taken away and given back into its old place of a loaded list of children."""
        children = loaded_list(parent)
        here = node.__dict__.get("position")
        if children is None or here is None or not changed(inspect(parent), "children"):
            return
        others = [child for child in children if child is not node]
        index = next((i for i, child in enumerate(others) if _stays_behind(child, here)), len(others))
        replace_list(children, [*others[:index], node, *others[index:]])

    def _was_merged(self, state: AnyState) -> bool:
        """Return whether `Session.merge` wrote this object: it sets all attributes, most of them to what they were.

        It sets the primary key too, which nothing else does.
        """
        return changed(state, self.config.pk_attr)

    def _repeats_old_key(self, state: AnyState) -> bool:
        return self._was_merged(state) and state.dict["parent_id"] == committed(state, "parent_id", NO_VALUE)

    def _drop_duplicates(self, parent: MappedObject) -> None:
        """Leave one of two places in a list where a child was put that was in it already: the new one."""
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
                hint = hint_of(children[old])
                # A parent that was assigned once more asks for no other place.
                keep = old if hint is not None and hint.assigned else new
                superfluous.update(index for index in indices if index != keep)
        if superfluous:
            replace_list(children, [child for index, child in enumerate(children) if index not in superfluous])

    def _link_reordered(self, parent: MappedObject) -> None:
        """Link the children that were sorted, reversed or reassigned out of the order of their positions.

        The longest run that is still in order stays; the others are put between them.
        """
        children = loaded_list(parent)
        if self.config.position is None or not children or not changed(inspect(parent), "children"):
            return
        linked = {id(link.node) for link in self.links}
        old = [child for child in children if id(child) not in linked and inspect(child).persistent]
        stay = _increasing([child.position for child in old])
        for index, child in enumerate(old):
            if index not in stay and child.parent_id == known_pk(self.config, parent):
                self.links.append(
                    ParentLink(
                        child,
                        inspect(child),
                        pk_of(child),
                        parent,
                        child.parent_id,
                        new=False,
                        moved=False,
                        hint=PlacementHint(),
                        position=None,
                    )
                )

    def _refuse_deleted_parent(self, node: MappedObject, parent_pk: PrimaryKey) -> None:
        if parent_pk is not None and parent_pk in self.deleted_pks and parent_pk not in self.new_by_pk:
            raise InvalidMoveError(
                f"{describe(node)} cannot go below <{self.config.name} {parent_pk!r}>, which is deleted in the same "
                "flush: move it elsewhere, or delete it too"
            )


def _conflict(node: MappedObject, parent: MappedObject, parent_pk: PrimaryKey) -> InvalidMoveError:
    said = "None" if parent is None else describe(parent)
    return InvalidMoveError(
        f"{describe(node)} has parent = {said} and parent_id = {parent_pk!r}, which are different nodes; "
        "set one of them"
    )


def _stays_behind(child: MappedObject, position: int) -> bool:
    """Return whether a child keeps its place, which is behind `position`."""
    hint, there = hint_of(child), child.__dict__.get("position")
    stays = inspect(child).persistent and (hint is None or not hint.asks_for_place)
    return bool(stays and there is not None and there > position)


def _increasing(values: Sequence[int]) -> set[int]:
    """Return the indices of a longest strictly increasing subsequence (patience sorting, Fredman 1975)."""
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


def _in_order(children: Sequence[MappedObject], index: int) -> bool:
    """Return whether a child stands between its neighbours where its position, before this flush, belongs."""
    node = children[index]
    here = node.__dict__.get("position")
    for neighbours, sign in ((reversed(children[:index]), 1), (children[index + 1 :], -1)):
        other = next((child for child in neighbours if child is not node), None)
        there = None if other is None else other.__dict__.get("position")
        if here is None or (there is not None and (here - there) * sign <= 0):
            return False
    return True
