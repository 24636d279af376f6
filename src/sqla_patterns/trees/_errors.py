"""The errors of trees, and `TreeProblem`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import exc

from ..exceptions import PatternError


class InvalidMoveError(PatternError, exc.InvalidRequestError):
    """A node cannot move to its new parent: itself, a node below it, one that does not exist, or two different ones."""


class UnplannedChangeError(PatternError, exc.InvalidRequestError):
    """A listener changes the structure of a tree when the flush is planned already and cannot take it into account."""


class DeleteRestrictedError(PatternError, exc.InvalidRequestError):
    """A node of a class with ``on_delete="restrict"`` still has children."""


class PathOverflowError(PatternError, exc.InvalidRequestError):
    """A path cannot hold a node: the node would lie too deep, or its number among its siblings is too high."""


class TreeProblem(NamedTuple):
    """One thing that `verify_tree` found.

    Attributes:
        kind: ``"orphan"`` (its parent does not exist), ``"cycle"`` (its chain of parents comes back to it),
            ``"duplicate_key"`` or ``"duplicate_position"`` (a sibling has the same). Of a `ClosureTable` also
            ``"missing_link"``, ``"extra_link"`` and ``"wrong_depth"``.
        pk: The primary key of the node.
        detail: A sentence for people.
    """

    kind: str
    pk: object
    detail: str


class TreeDamagedError(PatternError, exc.InvalidRequestError):
    """A tree is damaged: some ``parent_id`` is wrong, or an index has no entry for a node.

    Attributes:
        problems: What `verify_tree` found.
    """

    def __init__(self, message: str, problems: Sequence[TreeProblem]) -> None:
        super().__init__(message)
        self.problems = problems
