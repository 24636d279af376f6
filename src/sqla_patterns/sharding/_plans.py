"""How statements of one form are routed: the shards that conditions leave, and what is wrong if they are several."""

from __future__ import annotations

from dataclasses import dataclass

from ._conditions import NONE, Node, Values
from ._errors import CrossShardJoinError, ShardingError
from ._routing import Routing


@dataclass(frozen=True)
class Fault:
    """Why a statement cannot be answered by more than one shard."""

    error: type[ShardingError]
    text: str


@dataclass(frozen=True)
class Group:
    """Sources whose rows are on one shard.

    Attributes:
        condition: What leaves shards to it.
        names: The tables, for errors.
        is_apart: Whether it is that of a subquery which may give something even if it reads nothing.
    """

    condition: Node
    names: tuple[str, ...]
    is_apart: bool


@dataclass(frozen=True)
class ReadPlan:
    """How statements of one form are routed.

    Attributes:
        groups: The groups of sources; none if only reference tables are read.
        fault: What is wrong if several shards are left.
    """

    groups: tuple[Group, ...]
    fault: Fault | None

    def shards(self, values: Values, routing: Routing) -> frozenset[str]:
        """Return the shards to ask.

        Raises:
            CrossShardJoinError: Groups are joined that are not on one shard.
            UnmergeableScatterError: Several shards are left, and a part of the statement needs all rows at once.
        """
        if len(self.groups) == 1:
            left = self.groups[0].condition.shards(values)
            if left is None:
                left = routing.everywhere
        elif not self.groups:
            return frozenset((routing.home,))
        else:
            left = self._common(values, routing)
        if len(left) > 1 and self.fault is not None:
            raise self.fault.error(self.fault.text)
        return left

    def _common(self, values: Values, routing: Routing) -> frozenset[str]:
        found: list[tuple[Group, frozenset[str]]] = []
        for group in self.groups:
            left = group.condition.shards(values)
            if left is None:
                left = routing.everywhere
            if left:
                found.append((group, left))
            elif not group.is_apart:
                return NONE
            # A subquery that reads no row gives the same on each shard.
        distinct = {left for _, left in found}
        if not distinct:
            return frozenset((routing.home,))
        if len(found) == 1 or (len(distinct) == 1 and len(found[0][1]) == 1):
            return found[0][1]
        if self.fault is not None:
            raise self.fault.error(self.fault.text)
        texts = [f"{' and '.join(group.names)} on {', '.join(sorted(left))}" for group, left in found]
        raise CrossShardJoinError(
            f"The statement joins {'; '.join(texts)}: nothing says that rows which meet are on one shard. Join them by "
            "the foreign key of a FollowsParent, compare their shard keys, hold both to one shard, or join in Python"
        )
