"""The flush: what every spelling of a move, an insert and a delete comes down to.

Once per flush and tree class, before the unit of work looks at anything:

1. `Plan` resolves each new or changed node to one `Link`: the node and the parent it shall have, whichever way that was
   said.
2. The rows that decide are locked, roots first, and re-read inside the lock. Cycles, parents that are gone and duplicate keys
   raise here, before the first write.
3. Children that deleted nodes leave behind are moves like others.
4. `number` finds each node its position, and the index of the tree (`TreeIndex.change`) what it will keep about it. Up to here
   nothing is written.
5. What lies below deleted nodes goes, one UPDATE makes room for all newcomers of one parent, and the index follows.
6. The nodes get ``parent_id`` and ``position``, and the history of their relationships is taken as flushed. The unit of work
   then sees plain column changes, batches the INSERTs of a level, and cannot trip over a parent and a child that change places.
   Only what hangs below a new node whose key the database makes is left to it.

Loaded collections and positions are brought into step on the way, without SQL. A rollback, also of a savepoint, expires what was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sqlalchemy.orm import Session, SessionTransaction

from .._locks import lift_recursion_limit
from ._apply import apply_links, discard_derived
from ._checks import check_keys, lock_and_check, lock_lists
from ._config import TreeConfig, config_of
from ._deletes import keep_children, resolve_deletes
from ._index import Change
from ._marks import clear_mark
from ._numbering import number, open_gaps
from ._plan import Plan
from ._touched import forget_touched, touch, touched

__all__ = ("SESSION_LISTENERS",)

_UNFINISHED = "sqla_patterns.trees.unfinished"
_LINKS = ("position", "parent_id", "parent", "children")


def _batches(session: Session) -> dict[TreeConfig, tuple[list[Any], list[Any], list[Any]]]:
    """New, changed and deleted nodes of each tree in `session`."""
    configs: dict[type[Any], TreeConfig | None] = {}
    batches: dict[TreeConfig, tuple[list[Any], list[Any], list[Any]]] = {}
    for index, bucket in enumerate((session.new, session.dirty, session.deleted)):
        for obj in bucket:
            cls: type[Any] = cast("Any", type(obj))
            try:
                config = configs[cls]
            except KeyError:
                config = configs[cls] = getattr(cls, "__sqla_tree_config__", None)
            if config is not None:
                batches.setdefault(config, ([], [], []))[index].append(obj)
    return batches


def _before_flush(session: Session, flush_context: object, instances: object) -> None:
    for config, (new, dirty, deleted) in _batches(session).items():
        plan = Plan(session, config, new, dirty, deleted)
        lock_lists(plan)
        keep_children(plan)
        lock_and_check(plan)
        check_keys(plan)
        discard_derived(plan)
        number(plan)
        change = config.index.change(plan)
        resolve_deletes(plan)
        open_gaps(plan)
        if change is not None:
            change.write()
            session.info.setdefault(_UNFINISHED, []).append(change)
        apply_links(plan)
        touch(session, plan.touched)


def _after_flush(session: Session, flush_context: object) -> None:
    changes: list[Change] = session.info.pop(_UNFINISHED, [])
    for change in changes:
        change.finish()


def _after_commit(session: Session) -> None:
    forget_touched(session)


def _after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    session.info.pop(_UNFINISHED, None)
    for obj in session.identity_map.values():
        clear_mark(obj)
    for state in touched(session):
        obj = state.obj()
        if obj is not None and state.persistent and obj in session:
            kept = config_of(obj).index.attributes
            names = [name for name in (*_LINKS, *kept) if name in state.mapper.attrs]
            session.expire(obj, names)
    if not previous.nested:
        forget_touched(session)


SESSION_LISTENERS: dict[str, Callable[..., None]] = {
    # A predicate may stand in any statement of the user's, and MariaDB cuts off what goes too deep without an error.
    "after_begin": lift_recursion_limit,
    "before_flush": _before_flush,
    "after_flush": _after_flush,
    "after_commit": _after_commit,
    "after_soft_rollback": _after_soft_rollback,
}
