"""Notes that attribute events leave on a node for the next flush.

The unit of work knows *that* a node changed its parent. It does not know whether the node was taken out of a collection or
made a root on purpose, nor where among its new siblings it was put, nor in which order several nodes were. Those facts
are noted here, on the node, and are forgotten by the flush that acts on them or by a rollback.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm.attributes import flag_modified

__all__ = ("Mark", "clear_mark", "mark_of", "set_mark")

_MARK = "_sqla_tree_mark"
_order = itertools.count()


@dataclass(slots=True)
class Mark:
    """What the user said last about the place of one node.

    Attributes:
        removed: the node was taken out of a collection, and got no other parent so far.
        side: ``"first"``, ``"last"``, ``"before"`` or ``"after"``; None where the list that it stands in tells.
        anchor: the sibling meant by ``"before"`` and ``"after"``.
        listed: the node was put at that place of a loaded list, which may have been changed since and tells better.
        at: a position that was set.
        order: tells which of several marks was made first.
    """

    removed: bool = False
    side: str | None = None
    anchor: Any = None
    listed: bool = False
    at: Any = None
    order: int = field(default_factory=lambda: next(_order))


def mark_of(node: Any) -> Mark | None:
    mark = node.__dict__.get(_MARK)
    return mark if isinstance(mark, Mark) else None


def set_mark(node: Any, mark: Mark, *, touch: str | None = None) -> None:
    """Note `mark` on `node`; `touch` names an attribute to flag as changed, so that the next flush looks at the node."""
    if touch is not None:
        state = inspect(node)
        if state.persistent and touch in state.mapper.attrs:
            if touch in node.__dict__:
                flag_modified(node, touch)
            else:
                # Expired or deferred: setting it flags it too, without a SELECT. The flush puts the real number in.
                setattr(node, touch, None)
    node.__dict__[_MARK] = mark


def clear_mark(node: Any) -> None:
    node.__dict__.pop(_MARK, None)
