"""Lock what a flush is about to change, read it again, and refuse cycles, missing parents and duplicate keys."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import and_, or_, select

from .._locks import lock_table, locking_read, take_write_lock
from .._sql import chunks
from .._typing import MappedObject, PrimaryKey
from ..exceptions import DuplicateKeyError
from ._errors import InvalidMoveError
from ._flush_plan import FlushPlan, ParentLink, Token
from ._loaded_state import describe, pk_of
from ._tree import Tree
from ._tree_locks import claim_child_lists, lock_ancestors

# Two values for each sibling in one statement.
_SIBLINGS = 5_000


def lock_lists(plan: FlushPlan, tree: Tree) -> None:
    """Lock the list of roots if this flush puts any node there, and the trees from which it deletes.

    Every writer locks the list of roots first and rows later, and reads what lies below a deleted node only with the
    lock of that node.
    """
    config, connection = plan.config, plan.connection
    shared = config.position is not None or config.keyed or tree.index.numbers_roots
    renamed = any(node.parent_id is None for node in plan.renamed)
    children_move = bool(plan.deleted) and config.options.on_delete in ("root", "adopt")
    if shared and (renamed or children_move or any(link.to_root for link in plan.links)):
        plan.snapshot_reads = lock_table(connection, config.table, "roots")
    if not plan.deleted:
        return
    if connection.dialect.name == "sqlite":
        take_write_lock(connection, config.table)
    else:
        _lock(plan, tree, attach=plan.deleted_pks, paths=set())
        if tree.index.stores_data:
            _claim(plan, _roots(plan), roots=False)


def lock_and_check(plan: FlushPlan, tree: Tree) -> None:
    """Lock each tree that changes, in one statement for the whole flush, and check that no move makes a cycle.

    A new leaf needs the root of its tree, so that writers of one tree queue up in one place and cannot deadlock, and
    its parent, whose list of children grows. A move needs the whole path above its target: under REPEATABLE READ a path
    that another transaction has changed is then an error of the database instead of a stale answer. Where siblings
    order themselves and have no keys, a new leaf needs no lock at all.

    Raises:
        InvalidMoveError: A move makes a cycle, or a node or its new parent does not exist.
    """
    config = plan.config
    shared_lists = config.position is not None or config.keyed
    stores_data = tree.index.stores_data
    attach: set[PrimaryKey] = set()
    paths: set[PrimaryKey] = set()
    roots = False
    new = {id(link.node): link for link in plan.links if link.new}
    for link in plan.links:
        if link.moved:
            attach.add(link.pk)
            if (target := _attach_point(link, new)) is not None:
                paths.add(target)
        elif link.parent_exists and (shared_lists or stores_data or link.parent is None):
            attach.add(link.parent_pk)
        if not link.new:
            attach.add(link.pk)
        roots = roots or ((shared_lists or tree.index.numbers_roots) and link.to_root)
    for node in plan.renamed:
        if node.parent_id is None:
            roots = True
        else:
            attach.add(node.parent_id)
    if attach or paths:
        take_write_lock(plan.connection, config.table)
        _lock(plan, tree, attach=attach - paths, paths=paths)
        if paths := _find_moved(plan, new):
            _lock(plan, tree, attach=set(), paths=paths)
        _drop_repeated(plan)
        _check_parents(plan, tree)
    _check_cycles(plan)
    if (shared_lists or stores_data) and (plan.links or plan.renamed):
        claimed = {link.parent_pk for link in plan.links if link.parent_exists}
        if stores_data:
            # Writers that change the index anywhere in a tree must conflict with each other at its root.
            claimed |= _roots(plan)
        parents = [*claimed, *(node.parent_id for node in plan.renamed)]
        _claim(plan, parents, roots=roots)


def _claim(plan: FlushPlan, parents: Iterable[PrimaryKey], *, roots: bool) -> None:
    """Claim lists of children now if the snapshot may be older than the locks; otherwise when the flush writes."""
    keys = {each for each in parents if each is not None}
    if plan.snapshot_reads:
        claim_child_lists(plan.connection, plan.config, keys, roots=roots, snapshot_reads=True)
    else:
        plan.claimed_parents |= keys
        plan.claims_roots = plan.claims_roots or roots


def claim_lists(plan: FlushPlan) -> None:
    """Claim the lists of children that a flush is about to change, for writers whose snapshot is older."""
    claim_child_lists(plan.connection, plan.config, plan.claimed_parents, roots=plan.claims_roots)


def _find_moved(plan: FlushPlan, new: dict[int, ParentLink]) -> set[PrimaryKey]:
    """Make moves of links whose parent is no longer the one in the table; return the targets.

    The user who said the place of a node, or its parent once more, said that it belongs there, although another
    transaction has taken it elsewhere meanwhile.
    """
    targets: set[PrimaryKey] = set()
    for link in plan.links:
        if (
            not link.new
            and not link.moved
            and link.pk in plan.stored_parents
            and plan.stored_parents[link.pk] != link.parent_pk
        ):
            link.moved = True
            if (target := _attach_point(link, new)) is not None:
                targets.add(target)
    return targets


def _drop_repeated(plan: FlushPlan) -> None:
    """Forget links of nodes that were expired when their parent was assigned, and have this parent in the table."""
    kept: list[ParentLink] = []
    for link in plan.links:
        new_parent = link.parent is not None and link.parent_pk is None
        known = not link.new and link.pk in plan.stored_parents and not new_parent
        if known and link.moved and plan.stored_parents[link.pk] == link.parent_pk and link.parent_unknown:
            link.moved = False
            if not link.asks_for_place:
                plan.unmoved.append((link.node, link.parent_pk))
                plan.note_renamed(link.node)
                continue
            link.position = plan.requested_position(link.node, link.hint)
        kept.append(link)
    plan.links = kept


def _lock(plan: FlushPlan, tree: Tree, *, attach: set[PrimaryKey], paths: set[PrimaryKey]) -> None:
    """Lock rows, and note in `plan` what they say."""
    locked = lock_ancestors(plan.connection, tree, attach=attach, paths=paths)
    plan.stored_parents.update(locked.stored_parents)
    plan.stored_values.update(locked.stored_values)
    plan.snapshot_reads = plan.snapshot_reads or locked.snapshot_reads


def _roots(plan: FlushPlan) -> set[PrimaryKey]:
    return {pk for pk, parent in plan.stored_parents.items() if parent is None}


def _attach_point(link: ParentLink, new: dict[int, ParentLink]) -> PrimaryKey:
    """Return the primary key of the first node with a row above a link.

    A move to below a new node is one to below that node's parent.
    """
    seen: set[int] = set()
    at: ParentLink | None = link
    while at is not None and id(at) not in seen:
        if at.parent_exists:
            return at.parent_pk
        seen.add(id(at))
        at = new.get(id(at.parent))
    return None


def _check_parents(plan: FlushPlan, tree: Tree) -> None:
    shared_lists = plan.config.position is not None or plan.config.keyed or tree.index.stores_data
    for link in plan.links:
        if not link.new and link.pk not in plan.stored_parents:
            raise InvalidMoveError(f"{describe(link.node)} cannot move, since it does not exist (any more): refresh it")
        wanted = link.moved or shared_lists or link.parent is None
        if wanted and link.parent_exists and link.parent_pk not in plan.stored_parents:
            raise InvalidMoveError(
                f"{describe(link.node)} cannot go below <{plan.config.name} {link.parent_pk!r}>, "
                "which does not exist (any more)"
            )


def _check_cycles(plan: FlushPlan) -> None:
    """Walk up from each linked node, by this flush's links where there are some and by the database's elsewhere."""
    parents: dict[Token, Token] = {}
    for link in plan.links:
        parents[link.token] = link.parent_token
    done: set[Token] = set()
    for link in plan.links:
        path: set[Token] = set()
        at = link.token
        while at is not None and at not in done:
            if at in path:
                raise InvalidMoveError(
                    f"{describe(link.node)} cannot go below {_target(link)}, which lies below it: "
                    "move that out of the way first, or in the same flush"
                )
            path.add(at)
            if at in parents:
                at = parents[at]
            else:
                up = plan.stored_parents.get(at[1]) if at[0] == "pk" else None
                at = None if up is None else ("pk", up)
        done |= path


def _target(link: ParentLink) -> str:
    if link.parent is link.node:
        return "itself"
    return describe(link.parent) if link.parent is not None else repr(link.parent_pk)


def check_keys(plan: FlushPlan) -> None:
    """Refuse a key that two children of one parent would share.

    One SELECT, and none where no node of a `KeyedTreeNode` is new, moved or renamed.

    Raises:
        DuplicateKeyError: Two children would share a key.
    """
    config = plan.config
    key_attr, key = config.key_attr, config.key
    if key_attr is None or key is None:
        return
    wanted: dict[tuple[Token, object], MappedObject] = {}
    existing: list[tuple[PrimaryKey, object]] = []
    entries: list[tuple[MappedObject, Token]] = [(link.node, link.parent_token) for link in plan.links]
    entries += [(node, None if node.parent_id is None else ("pk", node.parent_id)) for node in plan.renamed]
    for node, parent in entries:
        value = getattr(node, key_attr)
        if value is None:
            continue
        other = wanted.setdefault((parent, value), node)
        if other is not node:
            raise _duplicate(plan, node, value, describe(other))
        if parent is None or (parent[0] == "pk" and parent[1] not in plan.new_by_pk):
            existing.append((None if parent is None else parent[1], value))
    settled = plan.deleted_pks | {link.pk for link in plan.links} | {pk_of(node) for node in plan.renamed}
    for batch in chunks(existing, _SIBLINGS):
        parents = {parent for parent, _ in batch}
        below = [config.parent_id.in_([parent for parent in parents if parent is not None])]
        if None in parents:
            below.append(config.parent_id.is_(None))
        statement = select(config.pk, config.parent_id, key).where(
            and_(key.in_({value for _, value in batch}), or_(*below))
        )
        for pk, parent_id, value in plan.connection.execute(locking_read(plan.connection, statement)):
            node = wanted.get((None if parent_id is None else ("pk", parent_id), value))
            if node is not None and pk not in settled:
                raise _duplicate(plan, node, value, f"<{config.name} {pk!r}>")


def _duplicate(plan: FlushPlan, node: MappedObject, value: object, other: str) -> DuplicateKeyError:
    return DuplicateKeyError(
        f"{describe(node)} cannot have {plan.config.key_attr} = {value!r}: its sibling {other} has it; "
        "rename one of them, or delete the other first"
    )
