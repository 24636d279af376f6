"""What an edge class configures: one frozen object in ``__graph__``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("GraphOptions",)


@dataclass(frozen=True)
class GraphOptions:
    """Options of an edge class, given as ``__graph__ = GraphOptions(...)`` in the class body.

    Attributes:
        acyclic: refuse, with `CycleError`, each edge that would close a cycle.
        lower_edges: name of the collection, on the node class, of the edges in which a node is the lower one. A second edge class
            between the same nodes needs a name of its own here.
        higher_edges: the same for the edges in which a node is the higher one.
    """

    acyclic: bool = False
    lower_edges: str = "lower_edges"
    higher_edges: str = "higher_edges"
