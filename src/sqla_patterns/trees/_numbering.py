"""Find a position for each *newcomer*: a node that is new among its siblings.

The newcomers of one parent are grouped by their *slot*, the place where they go: before or after a sibling, first, at a
position that the user set, or last. One UPDATE for each parent moves the siblings behind the slots up, which makes a
gap for each group; nodes that come last need none. The positions of nodes that leave stay free.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeAlias

from sqlalchemy import ColumnElement, case, func, inspect, or_, select, update
from sqlalchemy.orm.attributes import flag_modified, set_attribute, set_committed_value
from sqlalchemy.orm.base import NO_VALUE

from .._declarative import keep_onupdate
from .._locks import locking_read
from .._sql import chunks
from .._sqlalchemy import changed, committed, unflushed_additions
from .._typing import AnyColumn, MappedObject, PrimaryKey
from ._config import MAX_IN
from ._flush_plan import FlushPlan, ParentLink, Token
from ._loaded_state import loaded_list, pk_of

#: A place among siblings: ``("before", primary key)``, ``("after", primary key)``, ``("at", position)``, `_FIRST` or
#: `_LAST`.
_Slot: TypeAlias = tuple[str, PrimaryKey]
_FIRST: _Slot = ("first", None)
_LAST: _Slot = ("last", None)


def number(plan: FlushPlan) -> None:
    """Set ``position`` on the nodes of `plan`, and note in ``plan.gaps`` the space that they need among their siblings.

    Two SELECTs at most for the whole flush.
    """
    position = plan.config.position
    if position is None or not plan.links:
        return
    _drop_repeated(plan)
    families: dict[Token, list[ParentLink]] = defaultdict(list)
    for link in plan.links:
        families[link.parent_token].append(link)
    slots: dict[Token, dict[_Slot, list[ParentLink]]] = {}
    for token, links in families.items():
        if links[0].to_root or links[0].parent_exists:
            slots[token] = _slots(links)
        else:
            _number_first_children(links)
    if not slots:
        return
    parents = [token[1] for token in slots if token is not None]
    last = plan.last_positions = _last_positions(plan, position, parents, roots=None in slots)
    anchors = _anchor_positions(
        plan, position, {slot[1] for family in slots.values() for slot in family if _is_beside_sibling(slot)}
    )
    for token, family in slots.items():
        parent_pk = None if token is None else token[1]
        gaps = _number_family(parent_pk, family, anchors, last.get(parent_pk, -1))
        if gaps:
            plan.gaps[parent_pk] = gaps


def _drop_repeated(plan: FlushPlan) -> None:
    """Forget links of nodes that were given the position that they have, as far as that was not known."""
    unknown = {
        link.pk: link
        for link in plan.links
        if not link.new
        and not link.moved
        and link.position is not None
        and committed(link.state, "position", None) is NO_VALUE
    }
    for pk, link in unknown.items():
        stored = plan.stored_values.get(pk, {}).get("position")
        if stored == link.position:
            set_committed_value(link.node, "position", stored)
            plan.unmoved.append((link.node, link.parent_pk))
            plan.links.remove(link)


def _is_beside_sibling(slot: _Slot) -> bool:
    """Return whether a slot is before or after a sibling."""
    return slot[0] in ("before", "after")


def _number_first_children(links: Sequence[ParentLink]) -> None:
    """Assign positions to the children of a node that has no row yet: it has no other children."""
    next_position = 0
    for link in _in_list_order(links):
        value = next_position if link.position is None else max(link.position, next_position)
        _assign(link, value)
        next_position = value + 1


def _in_list_order(links: Sequence[ParentLink]) -> Sequence[ParentLink]:
    """Return the links in the order of the loaded list of children, those that are not in it last."""
    parent = links[0].parent
    if parent is None:
        return links
    children = loaded_list(parent)
    if children is None:
        children = unflushed_additions(inspect(parent), "children")
    index = {id(child): i for i, child in enumerate(children)}
    return sorted(links, key=lambda link: index.get(id(link.node), len(index)))


def _slots(links: Sequence[ParentLink]) -> dict[_Slot, list[ParentLink]]:
    """Group the newcomers of a parent, or of the roots, by the slot that they want."""
    newcomers = {id(link.node): link for link in links}
    from_list = _slots_in_list(links, newcomers)
    slots: dict[_Slot, list[ParentLink]] = defaultdict(list)
    relative: list[ParentLink] = []
    group_of: dict[int, list[ParentLink]] = {}
    slot: _Slot
    for link in _in_list_order(links):
        hint = link.hint
        if link.position is not None:
            slot = ("at", link.position)
        elif id(link.node) in from_list and not _unlisted(link):
            slot = from_list[id(link.node)]
        elif hint is not None and hint.side in ("before", "after"):
            if id(hint.anchor) in newcomers:
                relative.append(link)
                continue
            slot = (hint.side, pk_of(hint.anchor))
        elif hint is not None and hint.side == "first":
            slot = _FIRST
        else:
            slot = _LAST
        slots[slot].append(link)
        group_of[id(link.node)] = slots[slot]
    for slot, group in slots.items():
        _sort_unlisted(slot, group)
    _place_beside_newcomers(sorted(relative, key=_order), slots, group_of)
    return slots


def _unlisted(link: ParentLink) -> bool:
    """Return whether the place of a newcomer was said while the list was not loaded, so that it is not in the list."""
    hint = link.hint
    return hint is not None and hint.side in ("first", "before", "after") and not hint.in_loaded_list


def _order(link: ParentLink) -> int:
    return -1 if link.hint is None else link.hint.order


def _sort_unlisted(slot: _Slot, group: list[ParentLink]) -> None:
    """Sort the newcomers of one slot whose places were said one after the other.

    Of those that were put first, or after one sibling, the last one comes first; before a sibling, it comes last.
    """
    unlisted = sorted((link for link in group if _unlisted(link)), key=_order)
    if unlisted:
        others = [link for link in group if not _unlisted(link)]
        group[:] = [*others, *unlisted] if slot[0] == "before" else [*reversed(unlisted), *others]


def _slots_in_list(links: Sequence[ParentLink], newcomers: dict[int, ParentLink]) -> dict[int, _Slot]:
    """Return the slots that the loaded list says: each newcomer comes before the next sibling that was there before."""
    children = loaded_list(links[0].parent)
    found: dict[int, _Slot] = {}
    slot: _Slot = _LAST
    for child in reversed(children or []):
        if id(child) in newcomers:
            found[id(child)] = slot
        elif pk_of(child) is not None:
            slot = ("before", pk_of(child))
    return found


def _place_beside_newcomers(
    relative: list[ParentLink], slots: dict[_Slot, list[ParentLink]], group_of: dict[int, list[ParentLink]]
) -> None:
    """Put newcomers that are placed relative to other newcomers beside them."""
    while relative:
        waiting: list[ParentLink] = []
        for link in relative:
            anchor = link.hint.anchor if link.hint is not None else None
            group = group_of.get(id(anchor))
            if group is None:
                waiting.append(link)
                continue
            index = next(i for i, other in enumerate(group) if other.node is anchor)
            group.insert(index + (link.hint is not None and link.hint.side == "after"), link)
            group_of[id(link.node)] = group
        if len(waiting) == len(relative):
            # Each is placed relative to another of them, so nothing says where they start.
            slots[_LAST].extend(waiting)
            return
        relative = waiting


def _number_family(
    parent_pk: PrimaryKey,
    family: dict[_Slot, list[ParentLink]],
    anchors: dict[PrimaryKey, tuple[PrimaryKey, int]],
    last: int,
) -> list[tuple[int, int]]:
    """Assign the newcomers of one parent their positions, and return the gaps to open: ``(from position, width)``."""
    wanted: list[tuple[int, int, list[ParentLink]]] = []
    at_end: list[ParentLink] = []
    for (kind, value), links in family.items():
        if kind == "at":
            wanted.append((value, 1, links))
        elif kind == "first":
            wanted.append((0, 0, links))
        elif kind == "last" or anchors.get(value, (parent_pk, None))[1] is None or anchors[value][0] != parent_pk:
            # Where the anchor has moved away meanwhile, the end of the list is left.
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


def _assign(link: ParentLink, value: int) -> None:
    before = link.node.__dict__.get("position")
    repeats = value in (before, committed(link.state, "position", NO_VALUE))
    if before != value:
        set_attribute(link.node, "position", value)
    if repeats and not link.new:
        # The row itself may be shifted by the gap that is opened: write the number even where memory or the row has it
        # already.
        flag_modified(link.node, "position")


def open_gaps(plan: FlushPlan) -> None:
    """Open the gaps that `number` noted, in the database and in memory.

    One UPDATE for each parent that gets a node between its children.
    """
    position = plan.config.position
    if position is None or not plan.gaps:
        return
    by_parent = _loaded_by_parent(plan)
    for parent_pk, gaps in plan.gaps.items():
        _shift_rows(plan, position, parent_pk, gaps)
        _shift_loaded(plan, by_parent.get(parent_pk, ()), gaps)


def shifted(position: int, gaps: Sequence[tuple[int, int]]) -> int:
    """Return the position of a sibling that was at `position` before `gaps` were opened."""
    return position + sum(width for start, width in gaps if position >= start)


def _shift_rows(plan: FlushPlan, position: AnyColumn, parent_pk: PrimaryKey, gaps: Sequence[tuple[int, int]]) -> None:
    config = plan.config
    widths: list[tuple[ColumnElement[bool], int]] = []
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


def _shift_loaded(plan: FlushPlan, nodes: Sequence[MappedObject], gaps: Sequence[tuple[int, int]]) -> None:
    newcomers = {id(link.node) for link in plan.links}
    starts = [start for start, _ in gaps]
    totals = [0]
    for _, width in gaps:
        totals.append(totals[-1] + width)
    for node in nodes:
        here = node.__dict__.get("position")
        if here is not None and here >= starts[0] and id(node) not in newcomers:
            set_committed_value(node, "position", here + totals[bisect_left(starts, here + 1)])
            plan.states_to_expire.add(inspect(node))


def _loaded_by_parent(plan: FlushPlan) -> dict[PrimaryKey, list[MappedObject]]:
    found: dict[PrimaryKey, list[MappedObject]] = defaultdict(list)
    unknown: dict[int, MappedObject] = {}
    for node in plan.loaded_nodes():
        values = node.__dict__
        if "position" not in values:
            continue
        if "parent_id" in values:
            found[values["parent_id"]].append(node)
        elif not changed(inspect(node), "position"):
            unknown[id(node)] = node
    if unknown:
        # Nodes whose parent_id alone is expired or deferred. A loaded list may tell whose children they are.
        for parent_pk in plan.gaps:
            children = loaded_list(plan.loaded_node(parent_pk)) if parent_pk is not None else None
            found[parent_pk] += [child for child in children or () if unknown.pop(id(child), None) is not None]
        for node in unknown.values():
            # Whether it is shifted cannot be told, so it must not show what may be wrong by now.
            plan.session.expire(node, ["position"])
    return found


def _last_positions(
    plan: FlushPlan, position: AnyColumn, parents: Sequence[PrimaryKey], *, roots: bool
) -> dict[PrimaryKey, int]:
    """Return the highest position below each parent, of the roots under None."""
    config = plan.config
    found: dict[PrimaryKey, int] = {}
    batches: list[list[PrimaryKey]] = list(chunks(parents, MAX_IN)) or [[]]
    for i, keys in enumerate(batches):
        above = [config.parent_id.in_(keys)] if keys else []
        if roots and i == 0:
            above.append(config.parent_id.is_(None))
        statement = select(config.parent_id, func.max(position)).where(or_(*above)).group_by(config.parent_id)
        rows = plan.connection.execute(locking_read(plan.connection, statement))
        found.update((parent_id, highest) for parent_id, highest in rows)
    return found


def _anchor_positions(
    plan: FlushPlan, position: AnyColumn, keys: set[PrimaryKey]
) -> dict[PrimaryKey, tuple[PrimaryKey, int]]:
    """Return ``{primary key: (that of the parent, position)}`` of siblings by which newcomers are placed."""
    config = plan.config
    found: dict[PrimaryKey, tuple[PrimaryKey, int]] = {}
    for batch in chunks(keys, MAX_IN):
        statement = select(config.pk, config.parent_id, position).where(config.pk.in_(batch))
        rows = plan.connection.execute(locking_read(plan.connection, statement))
        found.update((pk, (parent_id, here)) for pk, parent_id, here in rows)
    return found
