"""Give each newcomer its position among its siblings.

Newcomers of one parent fall into groups that each want one slot: before or after a sibling, first, a position that the user set, or
last. One UPDATE opens the gaps for all groups of a parent; nodes that come last need none. Positions that nodes leave
behind stay free.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, case, func, inspect, or_, select, update
from sqlalchemy.orm.attributes import flag_modified, set_committed_value

from .._declarative import keep_onupdate
from .._locks import locking_read
from ._path_locks import chunks
from ._peek import identity_of, loaded_list
from ._plan import Link, Plan, Token
from ._sa import unflushed_additions

__all__ = ("number", "open_gaps", "shifted")

_Slot = tuple[str, Any]
_FIRST: _Slot = ("first", None)
_LAST: _Slot = ("last", None)


def number(plan: Plan) -> None:
    """Set ``position`` on the nodes of `plan`, and note in ``plan.gaps`` what room they need among their siblings.

    Two SELECTs at most for the whole flush.
    """
    position = plan.config.position
    if position is None or not plan.links:
        return
    families: dict[Token, list[Link]] = defaultdict(list)
    for link in plan.links:
        families[link.parent_token].append(link)
    slots: dict[Token, dict[_Slot, list[Link]]] = {}
    for token, links in families.items():
        if links[0].to_root or links[0].parent_exists:
            slots[token] = _slots(links)
        else:
            _number_first_children(links)
    if not slots:
        return
    parents = [token[1] for token in slots if token is not None]
    last = plan.last = _last_positions(plan, position, parents, roots=None in slots)
    anchors = _anchor_positions(
        plan, position, {slot[1] for family in slots.values() for slot in family if _named(slot)}
    )
    for token, family in slots.items():
        parent_pk = None if token is None else token[1]
        gaps = _number_family(parent_pk, family, anchors, last.get(parent_pk, -1))
        if gaps:
            plan.gaps[parent_pk] = gaps


def _named(slot: _Slot) -> bool:
    return slot[0] in ("before", "after")


def _number_first_children(links: Sequence[Link]) -> None:
    """Number the children of a node that has no row yet: there is nobody to make room for."""
    next_position = 0
    for link in _in_list_order(links):
        value = next_position if link.at is None else max(link.at, next_position)
        _assign(link, value)
        next_position = value + 1


def _in_list_order(links: Sequence[Link]) -> Sequence[Link]:
    """Links in the order of the loaded list of children, those that are not in it last."""
    parent = links[0].parent
    if parent is None:
        return links
    children = loaded_list(parent)
    if children is None:
        children = unflushed_additions(inspect(parent), "children")
    index = {id(child): i for i, child in enumerate(children)}
    return sorted(links, key=lambda link: index.get(id(link.node), len(index)))


def _slots(links: Sequence[Link]) -> dict[_Slot, list[Link]]:
    """Sort the newcomers of a parent, or of the roots, by the slot that they want."""
    newcomers = {id(link.node): link for link in links}
    from_list = _slots_in_list(links, newcomers)
    slots: dict[_Slot, list[Link]] = defaultdict(list)
    relative: list[Link] = []
    home: dict[int, list[Link]] = {}
    slot: _Slot
    for link in _in_list_order(links):
        mark = link.mark
        if link.at is not None:
            slot = ("at", link.at)
        elif id(link.node) in from_list and not _unlisted(link):
            slot = from_list[id(link.node)]
        elif mark is not None and mark.side in ("before", "after"):
            if id(mark.anchor) in newcomers:
                relative.append(link)
                continue
            slot = (mark.side, identity_of(mark.anchor))
        elif mark is not None and mark.side == "first":
            slot = _FIRST
        else:
            slot = _LAST
        slots[slot].append(link)
        home[id(link.node)] = slots[slot]
    for slot, group in slots.items():
        _as_said(slot, group)
    _settle(sorted(relative, key=_order), slots, home)
    return slots


def _unlisted(link: Link) -> bool:
    """Whether the place of a newcomer was said while the list was not loaded, so that the list cannot show it."""
    mark = link.mark
    return mark is not None and mark.side in ("first", "before", "after") and not mark.listed


def _order(link: Link) -> int:
    return -1 if link.mark is None else link.mark.order


def _as_said(slot: _Slot, group: list[Link]) -> None:
    """Of those that were put first, or after one sibling, the last one comes first; before a sibling, it comes last."""
    unlisted = sorted((link for link in group if _unlisted(link)), key=_order)
    if unlisted:
        others = [link for link in group if not _unlisted(link)]
        group[:] = [*others, *unlisted] if slot[0] == "before" else [*reversed(unlisted), *others]


def _slots_in_list(links: Sequence[Link], newcomers: dict[int, Link]) -> dict[int, _Slot]:
    """What the loaded list of children says: each newcomer comes before the next sibling that was there already."""
    children = loaded_list(links[0].parent)
    found: dict[int, _Slot] = {}
    slot: _Slot = _LAST
    for child in reversed(children or ()):
        if id(child) in newcomers:
            found[id(child)] = slot
        elif identity_of(child) is not None:
            slot = ("before", identity_of(child))
    return found


def _settle(relative: list[Link], slots: dict[_Slot, list[Link]], home: dict[int, list[Link]]) -> None:
    """Put newcomers that are placed relative to other newcomers beside them."""
    while relative:
        waiting: list[Link] = []
        for link in relative:
            anchor = link.mark.anchor if link.mark is not None else None
            group = home.get(id(anchor))
            if group is None:
                waiting.append(link)
                continue
            index = next(i for i, other in enumerate(group) if other.node is anchor)
            group.insert(index + (link.mark is not None and link.mark.side == "after"), link)
            home[id(link.node)] = group
        if len(waiting) == len(relative):
            # Each is placed relative to another of them, so nobody says where they start.
            slots[_LAST].extend(waiting)
            return
        relative = waiting


def _number_family(
    parent_pk: Any, family: dict[_Slot, list[Link]], anchors: dict[Any, tuple[Any, int]], last: int
) -> list[tuple[int, int]]:
    """Assign positions and return the gaps to open, as ``(from position, width)`` in ascending order."""
    wanted: list[tuple[int, int, list[Link]]] = []
    at_end: list[Link] = []
    for (kind, value), links in family.items():
        if kind == "at":
            wanted.append((value, 1, links))
        elif kind == "first":
            wanted.append((0, 0, links))
        elif kind == "last" or anchors.get(value, (parent_pk, None))[1] is None or anchors[value][0] != parent_pk:
            # An anchor that has moved away meanwhile leaves the end of the list.
            at_end += links
        else:
            slot = anchors[value][1] + (kind == "after")
            wanted.append((slot, 0 if kind == "after" else 1, links))
    wanted.sort(key=lambda group: group[:2])
    gaps: list[tuple[int, int]] = []
    shifted = 0
    highest = last
    for slot, _, links in wanted:
        for offset, link in enumerate(links):
            _assign(link, slot + shifted + offset)
        highest = max(highest, slot + shifted + len(links) - 1)
        if slot <= last:
            gaps.append((slot, len(links)))
        shifted += len(links)
    if gaps:
        highest = max(highest, last + sum(width for _, width in gaps))
    for offset, link in enumerate(at_end, start=1):
        _assign(link, highest + offset)
    return gaps


def _assign(link: Link, value: int) -> None:
    if link.node.__dict__.get("position") != value:
        link.node.position = value
    elif not link.new:
        # The row itself may be shifted by the gap that is opened; write the number even where memory has it already.
        flag_modified(link.node, "position")


def open_gaps(plan: Plan) -> None:
    """Make the room that `number` noted, in the database and in memory.

    One UPDATE for each parent into whose middle something is put.
    """
    position = plan.config.position
    if position is None or not plan.gaps:
        return
    by_parent = _loaded_by_parent(plan)
    for parent_pk, gaps in plan.gaps.items():
        _shift_rows(plan, position, parent_pk, gaps)
        _shift_loaded(plan, by_parent.get(parent_pk, ()), gaps)


def shifted(position: int, gaps: Sequence[tuple[int, int]]) -> int:
    """Where a sibling at `position` comes to stand when `gaps` are opened."""
    return position + sum(width for start, width in gaps if position >= start)


def _shift_rows(plan: Plan, position: Column[Any], parent_pk: Any, gaps: Sequence[tuple[int, int]]) -> None:
    config = plan.config
    widths: list[tuple[Any, Any]] = []
    total = 0
    for start, width in gaps:
        total += width
        widths.append((position >= start, total))
    above = config.parent_id.is_(None) if parent_pk is None else config.parent_id == parent_pk
    plan.connection.execute(
        update(config.table)
        .where(above, position >= gaps[0][0])
        .values({**keep_onupdate(config.table), position: position + case(*reversed(widths), else_=0)})
    )


def _shift_loaded(plan: Plan, nodes: Sequence[Any], gaps: Sequence[tuple[int, int]]) -> None:
    newcomers = {id(link.node) for link in plan.links}
    starts = [start for start, _ in gaps]
    totals = [0]
    for _, width in gaps:
        totals.append(totals[-1] + width)
    for node in nodes:
        here = node.__dict__.get("position")
        if here is not None and here >= starts[0] and id(node) not in newcomers:
            set_committed_value(node, "position", here + totals[bisect_left(starts, here + 1)])
            plan.touched.add(inspect(node))


def _loaded_by_parent(plan: Plan) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = defaultdict(list)
    for node in plan.loaded_nodes():
        values = node.__dict__
        if "parent_id" in values and "position" in values:
            found[values["parent_id"]].append(node)
    return found


def _last_positions(plan: Plan, position: Column[Any], parents: Sequence[Any], *, roots: bool) -> dict[Any, int]:
    config = plan.config
    found: dict[Any, int] = {}
    batches = list(chunks(parents)) or [[]]
    for i, keys in enumerate(batches):
        above = [config.parent_id.in_(keys)] if keys else []
        if roots and i == 0:
            above.append(config.parent_id.is_(None))
        statement = select(config.parent_id, func.max(position)).where(or_(*above)).group_by(config.parent_id)
        rows = plan.connection.execute(locking_read(plan.connection, statement))
        found.update((parent_id, highest) for parent_id, highest in rows)
    return found


def _anchor_positions(plan: Plan, position: Column[Any], keys: set[Any]) -> dict[Any, tuple[Any, int]]:
    config = plan.config
    found: dict[Any, tuple[Any, int]] = {}
    for batch in chunks(keys):
        statement = select(config.pk, config.parent_id, position).where(config.pk.in_(batch))
        rows = plan.connection.execute(locking_read(plan.connection, statement))
        found.update((pk, (parent_id, here)) for pk, parent_id, here in rows)
    return found
