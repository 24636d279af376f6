"""Marker classes for nodes and edges, from which the mixins `GraphNode` and `GraphEdge` derive.

The module of the mixins imports most others. Those name the markers in their types, so that no import is cyclic.
"""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Generic, TypeVar

N_co = TypeVar("N_co", covariant=True)


class AnyNode:
    """A node of any graph; it has no behaviour."""


if TYPE_CHECKING:

    class AnyEdge(Generic[N_co]):
        """An edge between nodes of a class; covariant, whereas `GraphEdge` is invariant.

        Type checkers find the type of the ``id`` of a node class in a covariant base only.
        """

else:

    class AnyEdge:
        """An edge between nodes of a class, which is given in brackets.

        Not a ``typing.Generic``, of which pydantic warns where it stands before one of its models.
        """

        def __class_getitem__(cls, node):
            return GenericAlias(cls, node)
