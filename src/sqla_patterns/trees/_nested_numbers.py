"""How the numbers of nested sets change in one flush, computed without SQL.

In the numbers of a tree, a node is the interval from its ``left`` to its ``right``. A flush takes intervals out, puts
them and new ones in elsewhere, and closes the gaps. `Renumbering` takes these edits in the numbers that the rows have
*before* the flush, in any combination: an interval may be taken out of another one that is taken out too, or put into
one that moves itself. The result is a list of `Shift`: runs of old numbers that move together, few even where many
rows change. The numbers of all rows follow from the shifts in one UPDATE, and those of loaded objects by the same
arithmetic.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from .._typing import PrimaryKey


class Numbers(NamedTuple):
    """The values that nested sets keep about a node. `tree` is the primary key of its root."""

    left: int
    right: int
    depth: int
    tree: PrimaryKey


class Shift(NamedTuple):
    """A change of the numbers in one run.

    Attributes:
        tree: The tree of the run, before the flush.
        low: The first number of the run.
        high: The last number of the run, None for all from `low` on.
        to_tree: The tree of the run, after the flush.
        offset: What is added to the numbers.
        depth_change: What is added to the depths.
    """

    tree: PrimaryKey
    low: int
    high: int | None
    to_tree: PrimaryKey
    offset: int
    depth_change: int


class Shifts:
    """The shifts of one flush, by tree. Numbers in no shift stay as they are."""

    def __init__(self, shifts: Iterable[Shift]) -> None:
        self.by_tree: dict[PrimaryKey, list[Shift]] = defaultdict(list)
        for shift in shifts:
            self.by_tree[shift.tree].append(shift)
        for found in self.by_tree.values():
            found.sort(key=lambda shift: shift.low)
        self._lows = {tree: [shift.low for shift in found] for tree, found in self.by_tree.items()}

    def __iter__(self) -> Iterator[Shift]:
        return (shift for found in self.by_tree.values() for shift in found)

    def __len__(self) -> int:
        return sum(map(len, self.by_tree.values()))

    def find(self, tree: PrimaryKey, number: int) -> Shift | None:
        """Return the shift of a number, None if it stays."""
        lows = self._lows.get(tree)
        if lows is None:
            return None
        index = bisect_right(lows, number) - 1
        if index < 0:
            return None
        shift = self.by_tree[tree][index]
        return shift if shift.high is None or number <= shift.high else None

    def apply(self, old: Numbers) -> Numbers:
        """Return the numbers of a node after the flush.

        Its two ends may be in different shifts, where something between them comes or goes.
        """
        left, right = self.find(old.tree, old.left), self.find(old.tree, old.right)
        return Numbers(
            old.left + left.offset if left else old.left,
            old.right + right.offset if right else old.right,
            old.depth + left.depth_change if left else old.depth,
            left.to_tree if left else old.tree,
        )


#: A step of `Renumbering`: its kind, and what it is about (see `Renumbering._write_line`).
_Step: TypeAlias = tuple[Any, ...]


class _NumberLine:
    """The edits of the old number line of one tree: where nodes are put in, and intervals that are taken out."""

    def __init__(self) -> None:
        self.inserts: dict[int, list[tuple[Hashable, int]]] = defaultdict(list)
        self.cuts: dict[int, int] = {}
        self.root_is_cut = False

    def sort(self) -> None:
        # A place comes before a cut that begins there: what stays right of it stays right of it.
        self.keys = sorted([*((at, 0) for at in self.inserts), *((low, 1) for low in self.cuts)])


class Renumbering:
    """Edits of number lines. Collect them, then call `run`. The caller tells nodes apart by tokens.

    Attributes:
        placed: The numbers of new nodes, after `run`.
    """

    def __init__(self) -> None:
        self._lines: dict[PrimaryKey, _NumberLine] = defaultdict(_NumberLine)
        self._cut: dict[Hashable, Numbers] = {}
        self._below: dict[Hashable, list[Hashable]] = defaultdict(list)
        self._new_lines: list[tuple[PrimaryKey, Hashable]] = []
        self.placed: dict[Hashable, Numbers] = {}

    def take_out(self, token: Hashable, old: Numbers) -> None:
        """Take a node out, with everything below it; it has to be put in somewhere."""
        self._cut[token] = old
        line = self._lines[old.tree]
        line.cuts[old.left] = old.right
        line.root_is_cut = line.root_is_cut or old.depth == 0

    def insert(self, token: Hashable, parent: Numbers, at: int) -> None:
        """Put a node in below a parent that has numbers, right before the number `at`.

        Several nodes at one number come in the order of the calls.
        """
        self._lines[parent.tree].inserts[at].append((token, parent.depth))

    def append(self, token: Hashable, parent: Hashable) -> None:
        """Put a node in as the last child of a new node."""
        self._below[parent].append(token)

    def make_root(self, token: Hashable, tree: PrimaryKey) -> None:
        """Make a node the root of `tree`."""
        self._new_lines.append((tree, token))

    def run(self) -> list[Shift]:
        """Return the shifts that carry out all edits, and set `placed`."""
        for line in self._lines.values():
            line.sort()
        shifts: list[Shift] = []
        for tree, line in self._lines.items():
            if not line.root_is_cut and line.keys:
                first = line.keys[0][0]
                self._write_line(tree, first, ("range", tree, first, None, 0), shifts)
        for tree, token in self._new_lines:
            self._write_line(tree, 1, ("node", token, 0), shifts)
        return shifts

    def _write_line(self, to_tree: PrimaryKey, start: int, first: _Step, shifts: list[Shift]) -> None:
        """Assign the numbers of one line from `start` on, and append the shifts to `shifts`.

        A stack of steps, since trees may be deeper than Python recurses:

        =======================================  =================================================================
        step                                     what is done
        =======================================  =================================================================
        ``range, tree, low, high, depth_change`` split old numbers into runs and the nodes that are put in between
        ``keep, tree, low, high, depth_change``  number a run that stays together
        ``node, token, depth``                   number a node and what is below it, new or taken out elsewhere
        ``close, token``                         number the right end of a new node
        =======================================  =================================================================
        """
        counter = start
        opened: dict[Hashable, tuple[int, int]] = {}
        stack = [first]
        while stack:
            item = stack.pop()
            match item:
                case ("range", tree, low, high, depth_change):
                    stack += reversed(self._split(tree, low, high, depth_change))
                case ("keep", tree, low, high, depth_change):
                    offset = counter - low
                    if offset or depth_change or tree != to_tree:
                        shifts.append(Shift(tree, low, high, to_tree, offset, depth_change))
                    counter += 0 if high is None else high - low + 1
                case ("node", token, depth) if token in self._cut:
                    old = self._cut[token]
                    stack.append(("range", old.tree, old.left, old.right, depth - old.depth))
                case ("node", token, depth):
                    opened[token] = counter, depth
                    counter += 1
                    stack.append(("close", token))
                    stack += [("node", child, depth + 1) for child in reversed(self._below.get(token, ()))]
                case _:
                    token = item[1]
                    left, depth = opened.pop(token)
                    self.placed[token] = Numbers(left, counter, depth, to_tree)
                    counter += 1

    def _split(self, tree: PrimaryKey, low: int, high: int | None, depth_change: int) -> Sequence[_Step]:
        """Return old numbers as runs that stay together and the nodes put in between, without what is taken out."""
        line = self._lines[tree]
        parts: list[_Step] = []
        cursor = low
        # An interval that is itself taken out begins with the cut that made it, which must not be followed again.
        is_cut_out = high is not None
        index = bisect_right(line.keys, (low, 1)) if is_cut_out else bisect_left(line.keys, (low, 0))
        while index < len(line.keys):
            at, is_cut = line.keys[index]
            if high is not None and at > high:
                break
            if at > cursor:
                parts.append(("keep", tree, cursor, at - 1, depth_change))
                cursor = at
            if is_cut:
                cursor = line.cuts[at] + 1
                index = bisect_left(line.keys, (cursor, 0))
            else:
                parts += [("node", token, depth + depth_change + 1) for token, depth in line.inserts[at]]
                index += 1
        if high is None or cursor <= high:
            parts.append(("keep", tree, cursor, high, depth_change))
        return parts
