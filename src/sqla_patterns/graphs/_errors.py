"""What can go wrong in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import exc

from ..exceptions import PatternError

if TYPE_CHECKING:
    from ._model import GraphNode

__all__ = ("CycleError",)


class CycleError(PatternError, exc.InvalidRequestError):
    """An edge would close a cycle, or a graph that is to be sorted has one.

    Attributes:
        path: the nodes along the cycle, the first again at the end. A node that the criteria of the session hide is left out; the
            message names all of them by key.
    """

    path: tuple[GraphNode, ...]

    def __init__(self, message: str, path: Sequence[GraphNode] = ()) -> None:
        super().__init__(message)
        self.path = tuple(path)
