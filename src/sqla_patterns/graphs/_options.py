"""`GraphOptions`, the options of an edge class."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GraphOptions:
    """Options of an edge class, given as ``__graph__ = GraphOptions(...)`` in the class body.

    Attributes:
        acyclic: Refuse, with `CycleError`, each edge that would close a cycle.
        lower_edges: The name of the collection, on the node class, of the edges in which a node is the lower end. A
            second edge class between the same nodes needs another name here.
        higher_edges: The name of the collection of the edges in which a node is the higher end.
        surrogate_key: Let a primary key column in the body of the edge class be the key, instead of the pair of ends,
            which becomes a unique constraint. Where the class inherits a primary key from its base, that is so without
            this option.
    """

    acyclic: bool = False
    lower_edges: str = "lower_edges"
    higher_edges: str = "higher_edges"
    surrogate_key: bool = False
