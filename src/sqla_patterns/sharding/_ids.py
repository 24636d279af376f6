"""Primary keys that need no central counter, and blocks of one that does."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Engine, MetaData, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..exceptions import InvalidArgumentError
from ._errors import ClockMovedBackError, ShardNotNamedError
from ._shards import SHARD, sync_engine_of

if TYPE_CHECKING:
    from sqlalchemy.engine.default import DefaultExecutionContext
    from sqlalchemy.ext.asyncio import AsyncEngine

_PATIENCE: Final = 10  # milliseconds that a generator waits for a clock that went back
_EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)


class _Ticks:
    """Pairs of a millisecond and a number within it, which only go up."""

    def __init__(self, epoch: datetime, numbers: int) -> None:
        if epoch.tzinfo is None:
            raise InvalidArgumentError(f"The epoch {epoch!r} has no time zone; give datetime(..., tzinfo=timezone.utc)")
        self._epoch = int(epoch.timestamp() * 1000)
        self._numbers = numbers
        self._lock = threading.Lock()
        self._last = (-1, 0)
        if self._now() < 0:
            raise InvalidArgumentError(f"The epoch {epoch!r} is in the future; give a time in the past")

    def take(self) -> tuple[int, int]:
        with self._lock:
            now, (last, number) = self._now(), self._last
            if now < last:
                now = self._wait(last)
            if now > last:
                number = 0
            elif number + 1 < self._numbers:
                number += 1
            else:
                while now <= last:  # the numbers of this millisecond are used up
                    now = self._now()
                number = 0
            self._last = (now, number)
            return self._last

    def _now(self) -> int:
        return time.time_ns() // 1_000_000 - self._epoch

    def _wait(self, last: int) -> int:
        behind = last - self._now()
        if behind > _PATIENCE:
            raise ClockMovedBackError(
                f"The clock is {behind} ms behind the last id; ids would repeat. Wait, or correct the clock by slewing"
            )
        while (now := self._now()) < last:
            time.sleep(0.0005)
        return now


class SnowflakeId:
    """64-bit ids in the order of time: 41 bits of milliseconds, 10 of the node, 12 of a number.

    Use it as ``mapped_column(BigInteger, default=SnowflakeId(node=3))``. Ids of one generator go up strictly, 4,096 in
    a millisecond; 41 bits last for 69 years.

    Args:
        node: 0 to 1023, different in each process that makes ids. There is no default: two processes with one node
            make the same ids.
        epoch: The time that counts as 0.

    Raises:
        ClockMovedBackError: When an id is made and the clock is more than 10 ms behind the last one.
    """

    def __init__(self, *, node: int, epoch: datetime = _EPOCH) -> None:
        if not 0 <= node < 1024:
            raise InvalidArgumentError(f"node={node} is not in 0 to 1023; give each process another one in there")
        self._node = node
        self._ticks = _Ticks(epoch, 4096)

    def __call__(self) -> int:
        """Return the next id."""
        milliseconds, number = self._ticks.take()
        return milliseconds << 22 | self._node << 12 | number


class ShardId:
    """64-bit ids with the shard inside: 41 bits of milliseconds, 13 of the shard, 10 of a number.

    Use it as ``mapped_column(BigInteger, primary_key=True, default=ShardId(["asia", "europe"]))``. A sharded session
    then sends ``get()`` and conditions on the key to one shard.

    Two processes may take the same number for one shard in one millisecond. The database refuses the second row; set
    `offset` in each process to another number to rule it out.

    Args:
        shards: All shards, in an order that never changes; new ones go to the end.
        offset: The part of the numbers of a millisecond that this process uses, with `parts`.
        parts: Into how many parts the 1,024 numbers are divided.
        epoch: The time that counts as 0.
    """

    def __init__(self, shards: Sequence[str], *, offset: int = 0, parts: int = 1, epoch: datetime = _EPOCH) -> None:
        if isinstance(shards, str) or not 0 < len(shards) <= 8192 or len(set(shards)) < len(shards):
            raise InvalidArgumentError(f"ShardId({shards!r}) needs 1 to 8,192 different shards, as a list")
        if not 0 < parts <= 1024 or not 0 <= offset < parts:
            raise InvalidArgumentError(f"offset={offset} of parts={parts}: parts is 1 to 1,024, and offset below it")
        self.shard_ids: Final = tuple(shards)
        self._places = {shard: place for place, shard in enumerate(shards)}
        self._base = offset * (1024 // parts)
        self._ticks = _Ticks(epoch, 1024 // parts)

    def __call__(self, context: DefaultExecutionContext) -> int:
        """Return the next id, for the shard that an INSERT is executed on."""
        shard = context.root_connection.get_execution_options().get(SHARD)
        if shard is None:
            raise ShardNotNamedError(
                "ShardId knows no shard outside of Shards; use the session of sharded_sessionmaker"
            )
        return self.make(str(shard))

    def make(self, shard: str) -> int:
        """Return the next id for `shard`."""
        place = self._places.get(shard)
        if place is None:
            raise InvalidArgumentError(f"ShardId has no shard {shard!r}, only {self.shard_ids}; add it to the end")
        milliseconds, number = self._ticks.take()
        return milliseconds << 23 | place << 10 | (self._base + number)

    def shard_of(self, key: int) -> str | None:
        """Return the shard that is in an id; None if there is none of that number."""
        place = key >> 10 & 8191
        return self.shard_ids[place] if key >= 0 and place < len(self.shard_ids) else None


_last_uuid = [0, threading.Lock()]


def uuid7() -> uuid.UUID:
    """Return a UUID of version 7 (RFC 9562): 48 bits of milliseconds and 74 random ones.

    They sort by time to the millisecond, so that an index is filled at its end. Nothing has to be configured.
    """
    value = int.from_bytes(os.urandom(10), "big")
    milliseconds = time.time_ns() // 1_000_000
    return uuid.UUID(
        int=(milliseconds & (1 << 48) - 1) << 80
        | 7 << 76
        | (value >> 62 & 0xFFF) << 64
        | 2 << 62
        | value & (1 << 62) - 1
    )


class BlockSequence:
    """Integers from a counter in one database, taken in blocks.

    For short keys without gaps of time in them. One transaction of its own takes a block, so that the lead database is
    asked once for `block` rows; numbers of a block that is not used up are lost when the process ends.

    Args:
        engine: The database that has the counter. On SQLite it must not be a file that the sessions write to: SQLite
            has one writer, and a flush would wait for itself.
        name: The name of the counter.
        block: How many numbers to take at once.
    """

    def __init__(self, engine: Engine | AsyncEngine, name: str, *, block: int = 100) -> None:
        if block < 1:
            raise InvalidArgumentError(f"block={block} takes no number; give at least 1")
        self._engine = sync_engine_of(engine)
        self._name = name
        self._block = block
        self._lock = threading.Lock()
        self._next = self._end = 0
        self._table = Table(
            "sqla_patterns_block_sequence",
            MetaData(),
            Column("name", String(100), primary_key=True),
            Column("next", BigInteger, nullable=False),
        )

    def create(self, *, start: int = 1) -> None:
        """Create the counter, unless it is there: a row of the table ``sqla_patterns_block_sequence``."""
        self._table.create(self._engine, checkfirst=True)
        with self._engine.begin() as connection:
            if connection.scalar(select(self._table.c.next).where(self._table.c.name == self._name)) is None:
                try:
                    with connection.begin_nested():
                        connection.execute(insert(self._table).values(name=self._name, next=start))
                except IntegrityError:
                    pass  # another process was faster

    def __call__(self) -> int:
        """Return the next number."""
        with self._lock:
            if self._next >= self._end:
                self._next = self._take()
                self._end = self._next + self._block
            self._next += 1
            return self._next - 1

    def _take(self) -> int:
        row = self._table.c.name == self._name
        with self._engine.begin() as connection:
            # The UPDATE comes first and locks the row until the end of the transaction.
            result: Any = connection.execute(
                update(self._table).where(row).values(next=self._table.c.next + self._block)
            )
            if not result.rowcount:
                raise InvalidArgumentError(f"There is no counter {self._name!r}; call BlockSequence.create() once")
            return int(connection.execute(select(self._table.c.next).where(row)).scalar_one()) - self._block
