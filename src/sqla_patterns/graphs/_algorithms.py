"""Graph algorithms on plain adjacency lists, without SQL and without recursion.

A graph is a mapping from a node to the nodes that come right after it; a node without an entry has none. Nodes are anything hashable,
here keys. Where there is a choice, the order of the lists decides, so that equal input gives equal output.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count, pairwise
from typing import Any, TypeVar

__all__ = ("components", "lightest_walk", "lightest_walks", "shortest_walk")

H = TypeVar("H", bound=Hashable)
Weight = Callable[[H, H], Any]


def components(after: Mapping[H, Sequence[H]]) -> list[list[H]]:
    """The strongly connected components, by Tarjan's algorithm."""
    index: dict[H, int] = {}
    low: dict[H, int] = {}
    stack: list[H] = []
    on_stack: set[H] = set()
    found: list[list[H]] = []
    for root in list(after):
        if root in index:
            continue
        work: list[tuple[H, Iterator[H]]] = []
        _enter(root, index, low, stack, on_stack)
        work.append((root, iter(after.get(root, ()))))
        while work:
            node, following = work[-1]
            for other in following:
                if other not in index:
                    _enter(other, index, low, stack, on_stack)
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


def _enter(node: H, index: dict[H, int], low: dict[H, int], stack: list[H], on_stack: set[H]) -> None:
    index[node] = low[node] = len(index)
    stack.append(node)
    on_stack.add(node)


def shortest_walk(after: Mapping[H, Sequence[H]], starts: Sequence[H], end: H) -> list[H]:
    """The nodes of a way from one of `starts` to `end` with the fewest edges; empty if there is none."""
    came_from: dict[H, H] = {}
    seen = set(starts)
    queue = deque(starts)
    while queue:
        node = queue.popleft()
        if node == end:
            return _way(came_from, end)
        for other in after.get(node, ()):
            if other not in seen:
                seen.add(other)
                came_from[other] = node
                queue.append(other)
    return []


def lightest_walk(
    after: Mapping[H, Sequence[H]],
    start: H,
    end: H,
    weight: Weight[H],
    *,
    closed: frozenset[H] | set[H] = frozenset(),
    cut: frozenset[H] | set[H] = frozenset(),
) -> list[H]:
    """The nodes of a way from `start` to `end` of the least total weight, by Dijkstra's algorithm; empty if there is none.

    The way avoids the nodes in `closed`, and does not begin with a step to one in `cut`. Of equally light ways it takes one with the
    fewest edges. Weights must not be negative.
    """
    came_from: dict[H, H] = {}
    done: set[H] = set()
    best: dict[H, tuple[Any, int]] = {start: (0, 0)}
    order = count()
    queue: list[tuple[Any, int, int, H]] = [(0, 0, next(order), start)]
    while queue:
        total, steps, _, node = heappop(queue)
        if node == end:
            return _way(came_from, end)
        if node in done:
            continue
        done.add(node)
        for other in after.get(node, ()):
            if other in done or other in closed or (node == start and other in cut):
                continue
            reached = (total + weight(node, other), steps + 1)
            if other not in best or reached < best[other]:
                best[other] = reached
                came_from[other] = node
                heappush(queue, (*reached, next(order), other))
    return []


def _way(came_from: Mapping[H, H], end: H) -> list[H]:
    way = [end]
    while way[-1] in came_from:
        way.append(came_from[way[-1]])
    return way[::-1]


def lightest_walks(after: Mapping[H, Sequence[H]], start: H, end: H, weight: Weight[H]) -> Iterator[list[H]]:
    """All ways from `start` to `end` that come by no node twice, the lightest first, by Yen's algorithm."""
    first = lightest_walk(after, start, end, weight)
    candidates: list[tuple[Any, int, int, list[H]]] = []
    order = count()
    known: set[tuple[H, ...]] = set()
    done: list[list[H]] = []

    def propose(way: list[H]) -> None:
        if tuple(way) not in known:
            known.add(tuple(way))
            total: Any = sum((weight(*step) for step in pairwise(way)), start=0)
            heappush(candidates, (total, len(way), next(order), way))

    if first:
        propose(first)
    while candidates:
        way = heappop(candidates)[-1]
        yield way
        done.append(way)
        # Each other way shares a beginning with one that is known, and then leaves it.
        for length in range(1, len(way)):
            root = way[:length]
            cut = {other[length] for other in done if other[:length] == root and len(other) > length}
            spur = lightest_walk(after, root[-1], end, weight, closed=set(root[:-1]), cut=cut)
            if spur:
                propose([*root[:-1], *spur])
