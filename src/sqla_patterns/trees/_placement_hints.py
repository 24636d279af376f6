"""Placement hints: what the user said about the place of a node, from an attribute event to the next flush.

The unit of work knows *that* a node changed its parent. It does not know whether the node was taken out of a collection
or made a root on purpose, nor where among its new siblings it was put, nor the order in which several nodes were put
there. Those facts are kept on the node, until the flush that acts on them or a rollback.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from sqlalchemy import inspect
from sqlalchemy.orm.attributes import flag_modified, set_attribute

from .._typing import MappedObject

_HINT = "_sqla_tree_placement_hint"
_order = itertools.count()


@dataclass(slots=True)
class PlacementHint:
    """What the user said last about the place of one node.

    Attributes:
        removed: The node was taken out of a collection, and got no other parent so far.
        side: ``"first"``, ``"last"``, ``"before"`` or ``"after"``; None where the list that contains the node tells.
        anchor: The sibling meant by ``"before"`` and ``"after"``.
        in_loaded_list: The node was put at that place of a loaded list, which may have been changed since and tells
            better.
        reordered_parent: The parent whose loaded list was put into another order, which the history of the list does
            not show.
        position: A position that was set, as the user gave it.
        assigned: The parent was assigned and nothing said about a place. It may be the parent that the node has
            already: forms set every field. That is no move, and `position` is then one that was set before.
        order: Tells which of several hints was made first.
    """

    removed: bool = False
    side: str | None = None
    anchor: MappedObject = None
    in_loaded_list: bool = False
    reordered_parent: MappedObject = None
    position: object = None
    assigned: bool = False
    order: int = field(default_factory=lambda: next(_order))

    @property
    def asks_for_place(self) -> bool:
        """Return whether the user asked for a place, be it the one that the node has."""
        return not (self.assigned or self.removed)


def hint_of(node: MappedObject) -> PlacementHint | None:
    """Return the hint on `node`, None where there is none."""
    hint = node.__dict__.get(_HINT)
    return hint if isinstance(hint, PlacementHint) else None


def set_hint(node: MappedObject, hint: PlacementHint, *, flag: str | None = None) -> None:
    """Keep `hint` on `node`.

    Args:
        node: The node.
        hint: What was said about its place.
        flag: The name of an attribute to flag as modified, so that the next flush looks at the node.
    """
    if flag is not None:
        state = inspect(node)
        if state.persistent and flag in state.mapper.attrs:
            if flag in node.__dict__:
                flag_modified(node, flag)
            else:
                # Expired or deferred: setting it flags it too, without a SELECT. The flush puts the real number in.
                set_attribute(node, flag, None)
    node.__dict__[_HINT] = hint


def clear_hint(node: MappedObject) -> None:
    """Take the hint from `node`, if there is one."""
    node.__dict__.pop(_HINT, None)
