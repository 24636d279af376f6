"""Nested set numbers as lines that are cut and spliced.

Each tree is a line of numbers, on which a node is the stretch from its ``left`` to its ``right``. A flush cuts stretches out, puts them and
new ones in elsewhere, and closes up. `Splice` takes these edits in the numbers that the rows have *before* the flush, in any mixture: a cut
inside another cut, a stretch put into one that moves itself. What comes out is a list of `Piece`: runs of old numbers that
shift as a whole, few even where many rows shift. The numbers of all rows follow from the pieces in one UPDATE, and those of loaded
objects by the same arithmetic.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

__all__ = ("Numbers", "Piece", "Pieces", "Splice")


class Numbers(NamedTuple):
    """Where a node is. `tree` is the key of its root."""

    left: int
    right: int
    depth: int
    tree: Any


class Piece(NamedTuple):
    """The numbers from `low` to `high` of one tree, or all from `low` on where `high` is None, and what becomes of them."""

    tree: Any
    low: int
    high: int | None
    to_tree: Any
    shift: int
    deepen: int


class Pieces:
    """What becomes of each number; numbers of no piece stay."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.by_tree: dict[Any, list[Piece]] = defaultdict(list)
        for piece in pieces:
            self.by_tree[piece.tree].append(piece)
        for found in self.by_tree.values():
            found.sort(key=lambda piece: piece.low)
        self._lows = {tree: [piece.low for piece in found] for tree, found in self.by_tree.items()}

    def __iter__(self) -> Any:
        return (piece for found in self.by_tree.values() for piece in found)

    def __len__(self) -> int:
        return sum(map(len, self.by_tree.values()))

    def find(self, tree: Any, number: int) -> Piece | None:
        lows = self._lows.get(tree)
        if lows is None:
            return None
        index = bisect_right(lows, number) - 1
        if index < 0:
            return None
        piece = self.by_tree[tree][index]
        return piece if piece.high is None or number <= piece.high else None

    def apply(self, old: Numbers) -> Numbers:
        """The numbers of a node after the flush. Its two ends may lie in different pieces, between which something comes or goes."""
        left, right = self.find(old.tree, old.left), self.find(old.tree, old.right)
        return Numbers(
            old.left + left.shift if left else old.left,
            old.right + right.shift if right else old.right,
            old.depth + left.deepen if left else old.depth,
            left.to_tree if left else old.tree,
        )


class _Line:
    """The marks on the old line of one tree: places where stretches are put in, and stretches that are cut out."""

    def __init__(self) -> None:
        self.inserts: dict[int, list[tuple[Any, int]]] = defaultdict(list)
        self.cuts: dict[int, int] = {}
        self.root_is_cut = False

    def sort(self) -> None:
        # A place comes before a cut that begins there: what stays right of it stays right of it.
        self.keys = sorted([*((at, 0) for at in self.inserts), *((low, 1) for low in self.cuts)])


class Splice:
    """Collect edits, then `run`. Nodes are told apart by tokens of the caller's."""

    def __init__(self) -> None:
        self._lines: dict[Any, _Line] = defaultdict(_Line)
        self._cut: dict[Hashable, Numbers] = {}
        self._below: dict[Hashable, list[Hashable]] = defaultdict(list)
        self._new_lines: list[tuple[Any, Hashable]] = []
        self.placed: dict[Hashable, Numbers] = {}
        """The numbers of new nodes, once `run` is through."""

    def cut(self, token: Hashable, old: Numbers) -> None:
        """Take a node out, with everything below it; it has to be put in somewhere."""
        self._cut[token] = old
        line = self._lines[old.tree]
        line.cuts[old.left] = old.right
        line.root_is_cut = line.root_is_cut or old.depth == 0

    def insert(self, token: Hashable, parent: Numbers, at: int) -> None:
        """Put a node in below a parent that has numbers, right before the number `at`; several come in the order of the calls."""
        self._lines[parent.tree].inserts[at].append((token, parent.depth))

    def append(self, token: Hashable, parent: Hashable) -> None:
        """Put a node in as the last child so far of a new one."""
        self._below[parent].append(token)

    def begin_line(self, token: Hashable, tree: Any) -> None:
        """Make a node a root."""
        self._new_lines.append((tree, token))

    def run(self) -> list[Piece]:
        for line in self._lines.values():
            line.sort()
        pieces: list[Piece] = []
        for tree, line in self._lines.items():
            if not line.root_is_cut and line.keys:
                first = line.keys[0][0]
                self._write_line(tree, first, ("range", tree, first, None, 0), pieces)
        for tree, token in self._new_lines:
            self._write_line(tree, 1, ("node", token, 0), pieces)
        return pieces

    def _write_line(self, to_tree: Any, start: int, first: tuple[Any, ...], pieces: list[Piece]) -> None:
        counter = start
        opened: dict[Hashable, tuple[int, int]] = {}
        stack = [first]
        while stack:
            item = stack.pop()
            match item:
                case ("range", tree, low, high, deepen):
                    stack += reversed(self._split(tree, low, high, deepen))
                case ("keep", tree, low, high, deepen):
                    shift = counter - low
                    if shift or deepen or tree != to_tree:
                        pieces.append(Piece(tree, low, high, to_tree, shift, deepen))
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

    def _split(self, tree: Any, low: int, high: int | None, deepen: int) -> Sequence[tuple[Any, ...]]:
        """Old numbers as runs that stay together, and the nodes put in between; without what is cut out of them."""
        line = self._lines[tree]
        parts: list[tuple[Any, ...]] = []
        cursor = low
        # A stretch that is itself cut begins with its own mark, which is not to be followed again.
        own = high is not None
        index = bisect_right(line.keys, (low, 1)) if own else bisect_left(line.keys, (low, 0))
        while index < len(line.keys):
            at, is_cut = line.keys[index]
            if high is not None and at > high:
                break
            if at > cursor:
                parts.append(("keep", tree, cursor, at - 1, deepen))
                cursor = at
            if is_cut:
                cursor = line.cuts[at] + 1
                index = bisect_left(line.keys, (cursor, 0))
            else:
                parts += [("node", token, depth + deepen + 1) for token, depth in line.inserts[at]]
                index += 1
        if high is None or cursor <= high:
            parts.append(("keep", tree, cursor, high, deepen))
        return parts
