"""What can go wrong in a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import exc

from ..exceptions import PatternError

__all__ = ("DeleteRestrictedError", "InvalidMoveError", "PathOverflowError", "TreeDamagedError", "TreeProblem")


class InvalidMoveError(PatternError, exc.InvalidRequestError):
    """A node cannot go where it was sent: into itself, below itself, to a parent that is gone, or to two at once."""


class DeleteRestrictedError(PatternError, exc.InvalidRequestError):
    """A node of a class with ``on_delete="restrict"`` still has children."""


class PathOverflowError(PatternError, exc.InvalidRequestError):
    """A path has no room for a node: it would lie too deep, or its number among its siblings is too high."""


class TreeProblem(NamedTuple):
    """One thing that `verify_tree` found.

    Attributes:
        kind: ``"orphan"`` (its parent does not exist), ``"cycle"`` (its chain of parents comes back to it),
            ``"duplicate_key"`` or ``"duplicate_position"`` (a sibling has the same). Of a `ClosureTable` also ``"missing_link"``,
            ``"extra_link"`` and ``"wrong_depth"``.
        pk: primary key of the node.
        detail: a sentence for people.
    """

    kind: str
    pk: object
    detail: str


class TreeDamagedError(PatternError, exc.InvalidRequestError):
    """What was asked cannot be derived: parent links are broken, or an index lacks what it keeps about a node.

    Attributes:
        problems: what `verify_tree` found.
    """

    def __init__(self, message: str, problems: Sequence[TreeProblem]) -> None:
        super().__init__(message)
        self.problems = problems
