"""Paths as strings, and the rules by which a flush rewrites them: in rows by SQL, and in objects by Python.

A path is the steps from the root down to a node, each a number of `WIDTH` digits, so that paths sort like the numbers:
a node comes before what lies below it, and that before the node's next sibling. What lies below a node is one range.

A `Rule` says how the paths of one range change. Ranges of different rules are disjoint or nested, and a path follows
the innermost rule whose range holds it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Integer, String, and_, cast, func, literal

from .._typing import AnyExpression

#: Digits of a step.
WIDTH = 6
#: The highest step.
MOST = 10**WIDTH - 1


@dataclass(frozen=True)
class PathFormat:
    """How steps are joined.

    Attributes:
        separator: What stands between two steps.
        beyond: Appended to a path, it sorts after everything below that path, and before the next sibling.
    """

    separator: str
    beyond: str

    def join(self, above: str | None, step: int) -> str:
        """Return the path `above` with one more step."""
        return f"{step:0{WIDTH}}" if above is None else f"{above}{self.separator}{step:0{WIDTH}}"

    def levels(self, path: str) -> int:
        """Return how many steps a path has."""
        return (len(path) + len(self.separator)) // (WIDTH + len(self.separator))

    def length(self, levels: int) -> int:
        """Return the length of a path of so many steps."""
        return levels * (WIDTH + len(self.separator)) - len(self.separator)

    def above(self, path: str) -> str | None:
        """Return the path of the parent, None for that of a root."""
        return path[: -WIDTH - len(self.separator)] or None

    def end(self, path: str) -> str:
        """Return the end of the range of `path` and all below it; exclusive."""
        return path + self.beyond


def last_step(path: str) -> int:
    """Return the last step of a path."""
    return int(path[-WIDTH:])


@dataclass(frozen=True, slots=True)
class Rule:
    """A change of the paths from `start` to before `end`.

    Attributes:
        start: The first path of the range.
        end: The end of the range, exclusive.
        cut: How many characters of the old path are replaced.
        new: What comes in their place.
        shift: What is added to the step that follows the cut, None where the rest stays as it is.
    """

    start: str
    end: str
    cut: int
    new: str
    shift: int | None = None

    @property
    def growth(self) -> int:
        """Return by how many characters paths become longer; negative where they become shorter."""
        return len(self.new) - self.cut

    @property
    def changes_nothing(self) -> bool:
        """Return whether all paths of the range stay as they are."""
        return self.shift is None and self.start == self.new

    def apply(self, path: str) -> str:
        """Return the new path of an old one in the range."""
        if self.shift is None:
            return self.new + path[self.cut :]
        rest = self.cut + WIDTH
        return f"{self.new}{int(path[self.cut : rest]) + self.shift:0{WIDTH}}{path[rest:]}"

    def expression(self, text: ColumnElement[str]) -> ColumnElement[str]:
        """Return the new path, in SQL, of the old path `text`."""
        new = literal(self.new, String())
        if self.shift is None:
            return new.concat(func.substr(text, self.cut + 1, type_=String()))
        rest = self.cut + WIDTH
        step = cast(func.substr(text, self.cut + 1, WIDTH, type_=String()), Integer)
        # A million more puts the zeros back in front, and a digit before them that is cut off.
        padded = func.substr(cast(step + (self.shift + MOST + 1), String()), 2, type_=String())
        return new.concat(padded).concat(func.substr(text, rest + 1, type_=String()))

    def holds(self, path: AnyExpression, as_path: Callable[[str], AnyExpression | str]) -> ColumnElement[bool]:
        """Return the criterion that column `path` is in the range; `as_path` makes a value of the column's type."""
        return and_(path >= as_path(self.start), path < as_path(self.end))


class Rules:
    """The rules of one flush that change anything, innermost first."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        active: list[Rule] = []
        kept: list[Rule] = []
        #: Rules inside no other: their ranges are disjoint and hold every path that changes.
        self.outermost: list[Rule] = []
        # (where it starts, the rule that holds from there on)
        spans: list[tuple[str, Rule | None]] = []

        def leave(before: str | None) -> None:
            while active and (before is None or active[-1].end <= before):
                end = active.pop().end
                spans.append((end, active[-1] if active else None))

        for rule in sorted(sorted(rules, key=lambda rule: rule.end, reverse=True), key=lambda rule: rule.start):
            leave(rule.start)
            if not active:
                if rule.changes_nothing:
                    continue  # Inside another it says that these paths are left out; by itself it says nothing.
                self.outermost.append(rule)
            kept.append(rule)
            spans.append((rule.start, rule))
            active.append(rule)
        leave(None)
        # In sorted order an outer rule comes before those inside it.
        self.innermost_first: Sequence[Rule] = kept[::-1]
        self._starts = [start for start, _ in spans]
        self._rules = [rule for _, rule in spans]

    def __bool__(self) -> bool:
        return bool(self.innermost_first)

    def __len__(self) -> int:
        return len(self.innermost_first)

    def apply(self, path: str) -> str:
        """Return the new path of an old one, the same if no rule holds it."""
        index = bisect_right(self._starts, path) - 1
        rule = self._rules[index] if index >= 0 else None
        return path if rule is None else rule.apply(path)
