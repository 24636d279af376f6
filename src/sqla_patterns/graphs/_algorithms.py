"""Graph algorithms on plain adjacency lists, without SQL and without recursion.

A graph is a mapping from a node to the nodes that its edges lead to; a node without an entry has no such edges. Nodes
are anything hashable, here primary keys. Where there is a choice, the order of the lists decides, so that equal input
gives equal output.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from heapq import heappop, heappush
from itertools import count, pairwise
from typing import Any, TypeAlias, TypeVar

H = TypeVar("H", bound=Hashable)
#: An int, a float or a Decimal; only sums and comparisons are taken of it.
Number: TypeAlias = Any
Weight = Callable[[H, H], Number]


def strongly_connected_components(after: Mapping[H, Sequence[H]]) -> list[list[H]]:
    """Return the strongly connected components, by Tarjan's algorithm (1972)."""
    index: dict[H, int] = {}
    low: dict[H, int] = {}
    stack: list[H] = []
    on_stack: set[H] = set()
    found: list[list[H]] = []

    def enter(node: H) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        on_stack.add(node)

    for root in list(after):
        if root in index:
            continue
        enter(root)
        # Takes the place of the call stack: a node, and those of its neighbours that are yet to be visited.
        work: list[tuple[H, Iterator[H]]] = [(root, iter(after.get(root, ())))]
        while work:
            node, following = work[-1]
            for other in following:
                if other not in index:
                    enter(other)
                    work.append((other, iter(after.get(other, ()))))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[node])
                if low[node] == index[node]:
                    group: list[H] = []
                    while not group or group[-1] != node:
                        group.append(stack.pop())
                        on_stack.discard(group[-1])
                    found.append(group)
    return found


def path_with_fewest_edges(after: Mapping[H, Sequence[H]], starts: Sequence[H], end: H) -> list[H]:
    """Return the nodes of a path from one of `starts` to `end` with the fewest edges; an empty list if there is none.

    By breadth-first search.
    """
    came_from: dict[H, H] = {}
    seen = set(starts)
    queue = deque(starts)
    while queue:
        node = queue.popleft()
        if node == end:
            return _path_to(end, came_from)
        for other in after.get(node, ()):
            if other not in seen:
                seen.add(other)
                came_from[other] = node
                queue.append(other)
    return []


def lightest_path(
    after: Mapping[H, Sequence[H]],
    start: H,
    end: H,
    weight: Weight[H],
    *,
    closed: Set[H] = frozenset(),
    closed_at_start: Set[H] = frozenset(),
) -> list[H]:
    """Return the nodes of a path from `start` to `end` of the least total weight; an empty list if there is none.

    By Dijkstra's algorithm (1959). Of equally light paths it returns one with the fewest edges.

    Args:
        after: The graph.
        start: The first node.
        end: The last node.
        weight: Returns the weight of an edge, which must not be negative.
        closed: Nodes that the path avoids.
        closed_at_start: Nodes that must not be the second one of the path.
    """
    came_from: dict[H, H] = {}
    done: set[H] = set()
    best: dict[H, tuple[Number, int]] = {start: (0, 0)}
    order = count()
    queue: list[tuple[Number, int, int, H]] = [(0, 0, next(order), start)]
    while queue:
        total, steps, _, node = heappop(queue)
        if node == end:
            return _path_to(end, came_from)
        if node in done:
            continue
        done.add(node)
        for other in after.get(node, ()):
            if other in done or other in closed or (node == start and other in closed_at_start):
                continue
            reached = (total + weight(node, other), steps + 1)
            if other not in best or reached < best[other]:
                best[other] = reached
                came_from[other] = node
                heappush(queue, (*reached, next(order), other))
    return []


def _path_to(end: H, came_from: Mapping[H, H]) -> list[H]:
    path = [end]
    while path[-1] in came_from:
        path.append(came_from[path[-1]])
    return path[::-1]


def lightest_paths(after: Mapping[H, Sequence[H]], start: H, end: H, weight: Weight[H]) -> Iterator[list[H]]:
    """Yield all paths from `start` to `end` that visit no node twice, the lightest first, by Yen's algorithm (1971)."""
    first = lightest_path(after, start, end, weight)
    candidates: list[tuple[Number, int, int, list[H]]] = []
    order = count()
    known: set[tuple[H, ...]] = set()
    done: list[list[H]] = []

    def propose(path: list[H]) -> None:
        if tuple(path) not in known:
            known.add(tuple(path))
            total: Number = sum((weight(*step) for step in pairwise(path)), start=0)
            heappush(candidates, (total, len(path), next(order), path))

    if first:
        propose(first)
    while candidates:
        path = heappop(candidates)[-1]
        yield path
        done.append(path)
        # Each other path shares a beginning with one that is known, and then leaves it.
        for length in range(1, len(path)):
            root = path[:length]
            taken = {other[length] for other in done if other[:length] == root and len(other) > length}
            spur = lightest_path(after, root[-1], end, weight, closed=set(root[:-1]), closed_at_start=taken)
            if spur:
                propose([*root[:-1], *spur])
