"""Graphs."""

from __future__ import annotations

from ._errors import CycleError
from ._export import DiGraphLike, to_dot, to_networkx
from ._loading import load_graph
from ._model import GraphEdge, GraphNode
from ._options import GraphOptions
from ._queries import all_paths, connected_component, find_cycles, shortest_path, topological_order

__all__ = (
    "CycleError",
    "DiGraphLike",
    "GraphEdge",
    "GraphNode",
    "GraphOptions",
    "all_paths",
    "connected_component",
    "find_cycles",
    "load_graph",
    "shortest_path",
    "to_dot",
    "to_networkx",
    "topological_order",
)
