"""Lock what a flush is about to change, read it again inside the lock, and refuse what may not be. Nothing is written here."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import and_, or_, select

from .._locks import lock_table, locking_read, take_write_lock
from ..exceptions import DuplicateKeyError
from ._errors import InvalidMoveError
from ._path_locks import chunks, claim_lists, lock_paths
from ._peek import describe, identity_of
from ._plan import Link, Plan, Token

__all__ = ("check_keys", "lock_and_check", "lock_lists")

T = TypeVar("T")


def lock_lists(plan: Plan) -> None:
    """Lock the list of roots if this flush puts any node there, and the trees from which it deletes.

    Everybody locks the list of roots first and rows later, and nobody reads what lies below a deleted node without its lock.
    """
    config, connection = plan.config, plan.connection
    shared = config.position is not None or config.keyed or config.index.numbers_roots
    renamed = any(node.parent_id is None for node in plan.renamed)
    kept = bool(plan.deleted) and config.options.on_delete in ("root", "adopt")
    if shared and (renamed or kept or any(link.to_root for link in plan.links)):
        plan.snapshot_reads = lock_table(connection, config.table, "roots")
    if not plan.deleted:
        return
    if connection.dialect.name == "sqlite":
        take_write_lock(connection, config.table)
    else:
        _lock(plan, plan.deleted_pks, set())
        if config.index.keeps_anything and plan.snapshot_reads:
            claim_lists(connection, config, _roots(plan), roots=False)


def lock_and_check(plan: Plan) -> None:
    """Lock each tree that changes, in one statement for the whole flush, and check that no move makes a cycle.

    A new leaf needs the root of its tree, so that writers of one tree queue up in one place and cannot deadlock, and its parent,
    whose list of children grows. A move needs the whole path above its target: under REPEATABLE READ a path that
    somebody else has changed is then an error of the database instead of a stale answer. Where siblings order themselves and have
    no keys, a new leaf needs no lock at all.
    """
    config = plan.config
    shared_lists = config.position is not None or config.keyed
    keeps = config.index.keeps_anything
    attach: set[Any] = set()
    paths: set[Any] = set()
    roots = False
    new = {id(link.node): link for link in plan.links if link.new}
    for link in plan.links:
        if link.moved:
            attach.add(link.pk)
            if (target := _attach_point(link, new)) is not None:
                paths.add(target)
        elif link.parent_exists and (shared_lists or keeps or link.parent is None):
            attach.add(link.parent_pk)
        if not link.new:
            attach.add(link.pk)
        roots = roots or ((shared_lists or config.index.numbers_roots) and link.to_root)
    for node in plan.renamed:
        if node.parent_id is None:
            roots = True
        else:
            attach.add(node.parent_id)
    if attach or paths:
        take_write_lock(plan.connection, config.table)
        _lock(plan, attach - paths, paths)
        if paths := _find_moved(plan, new):
            _lock(plan, set(), paths)
        _check_parents(plan)
    _check_cycles(plan)
    if (shared_lists or keeps) and plan.snapshot_reads:
        claimed = {link.parent_pk for link in plan.links if link.parent_exists}
        if keeps:
            # Whoever changes an index anywhere in a tree has to meet others that do at its root.
            claimed |= _roots(plan)
        claim_lists(plan.connection, config, [*claimed, *(node.parent_id for node in plan.renamed)], roots=roots)


def _find_moved(plan: Plan, new: dict[int, Link]) -> set[Any]:
    """Make moves of links that repeat a parent from which somebody else has taken the node meanwhile; return their targets.

    Whoever said the place of a node, or its parent once more, said that it belongs there.
    """
    targets: set[Any] = set()
    for link in plan.links:
        if not link.new and not link.moved and link.pk in plan.rows and plan.rows[link.pk] != link.parent_pk:
            link.moved = True
            if (target := _attach_point(link, new)) is not None:
                targets.add(target)
    return targets


def _lock(plan: Plan, attach: set[Any], paths: set[Any]) -> None:
    """Lock rows, and note in `plan` what they say."""
    locked = lock_paths(plan.connection, plan.config, attach, paths)
    plan.rows.update(locked.rows)
    plan.kept.update(locked.kept)
    plan.snapshot_reads = locked.snapshot_reads


def _roots(plan: Plan) -> set[Any]:
    return {pk for pk, above in plan.rows.items() if above is None}


def _attach_point(link: Link, new: dict[int, Link]) -> Any:
    """Key of the first node with a row above a link: a move to below a new node is one to below that node's parent."""
    seen: set[int] = set()
    at: Link | None = link
    while at is not None and id(at) not in seen:
        if at.parent_exists:
            return at.parent_pk
        seen.add(id(at))
        at = new.get(id(at.parent))
    return None


def _check_parents(plan: Plan) -> None:
    for link in plan.links:
        if link.moved and link.pk not in plan.rows:
            raise InvalidMoveError(f"{describe(link.node)} cannot move, since it does not exist (any more): refresh it")
        shared_lists = plan.config.position is not None or plan.config.keyed or plan.config.index.keeps_anything
        wanted = link.moved or shared_lists or link.parent is None
        if wanted and link.parent_exists and link.parent_pk not in plan.rows:
            raise InvalidMoveError(
                f"{describe(link.node)} cannot go below <{plan.config.name} {link.parent_pk!r}>, which does not exist (any more)"
            )


def _check_cycles(plan: Plan) -> None:
    """Walk up from each linked node, by this flush's links where there are some and by the database's elsewhere."""
    above: dict[Token, Token] = {}
    for link in plan.links:
        above[link.token] = link.parent_token
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
            if at in above:
                at = above[at]
            else:
                up = plan.rows.get(at[1]) if at[0] == "pk" else None
                at = None if up is None else ("pk", up)
        done |= path


def _target(link: Link) -> str:
    if link.parent is link.node:
        return "itself"
    return describe(link.parent) if link.parent is not None else repr(link.parent_pk)


def check_keys(plan: Plan) -> None:
    """Refuse a key that two children of one parent would share.

    One SELECT, and none where no node of a `KeyedTreeNode` is new, moved or renamed.
    """
    config = plan.config
    key_attr, key = config.key_attr, config.key
    if key_attr is None or key is None:
        return
    wanted: dict[tuple[Token, Any], Any] = {}
    existing: list[tuple[Any, Any]] = []
    entries: list[tuple[Any, Token]] = [(link.node, link.parent_token) for link in plan.links]
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
    settled = plan.deleted_pks | {link.pk for link in plan.links} | {identity_of(node) for node in plan.renamed}
    for batch in chunks(existing, 5_000):
        parents = {parent for parent, _ in batch}
        above = [config.parent_id.in_([parent for parent in parents if parent is not None])]
        if None in parents:
            above.append(config.parent_id.is_(None))
        statement = select(config.pk, config.parent_id, key).where(
            and_(key.in_({value for _, value in batch}), or_(*above))
        )
        for pk, parent_id, value in plan.connection.execute(locking_read(plan.connection, statement)):
            node = wanted.get((None if parent_id is None else ("pk", parent_id), value))
            if node is not None and pk not in settled:
                raise _duplicate(plan, node, value, f"<{config.name} {pk!r}>")


def _duplicate(plan: Plan, node: Any, value: Any, other: str) -> DuplicateKeyError:
    return DuplicateKeyError(
        f"{describe(node)} cannot have {plan.config.key_attr} = {value!r}: its sibling {other} has it; "
        "rename one of them, or delete the other first"
    )
