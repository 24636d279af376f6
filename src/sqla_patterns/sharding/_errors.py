"""What can go wrong with several databases behind one session."""

from __future__ import annotations

from collections.abc import Collection

from ..exceptions import StateError


class ShardingError(StateError):
    """Base of what a sharded session refuses."""


class UnroutableKeyError(ShardingError):
    """No shard belongs to a value of a shard key.

    Attributes:
        value: The value.
        key: The name of the key, such as ``Location.continent``.
    """

    def __init__(self, value: object, key: str, *, why: str = "no shard belongs to it") -> None:
        super().__init__(
            f"{key} = {value!r} cannot be routed: {why}; set another value, or add it to the router of the key"
        )
        self.value = value
        self.key = key


class ShardNotNamedError(ShardingError):
    """A statement or connection has nothing to be routed by, and no shard was named."""


class ScatterForbiddenError(ShardingError):
    """A statement needs several shards, and the factory forbids that."""


class ScatterWarning(UserWarning):
    """A statement was sent to several shards."""


class UnmergeableScatterError(ShardingError):
    """The answers of several shards cannot be put together to that of one database."""


class CrossShardJoinError(ShardingError):
    """A statement joins rows that may be on different shards."""


class CrossShardRelationshipError(ShardingError):
    """Two objects that refer to each other are, or would be, on different shards."""


class ShardKeyChangedError(ShardingError):
    """A row would have to go to another shard because its shard key was changed; `move()` does that."""


class AmbiguousIdentityError(ShardingError):
    """A primary key was asked for that several shards have.

    Attributes:
        shards: The shards that have it.
    """

    def __init__(self, what: str, shards: Collection[str]) -> None:
        self.shards = tuple(sorted(shards))
        super().__init__(
            f"{what} is on the shards {', '.join(self.shards)}; name one with identity_token= or within pinned_to()"
        )


class TransactionFailedError(ShardingError):
    """A statement has failed on one shard, so that the transaction can only be rolled back, on all of them."""


class PartialCommitError(ShardingError):
    """Some shards have committed, and others have not.

    Attributes:
        committed: The shards that have committed.
        failed: The shards that have not, as far as can be known. They are rolled back.
        in_doubt: Those of `failed` whose COMMIT was sent and raised: a server that was cut off may have executed it.
    """

    def __init__(self, committed: Collection[str], failed: Collection[str], in_doubt: Collection[str]) -> None:
        self.committed = tuple(sorted(committed))
        self.failed = tuple(sorted(failed))
        self.in_doubt = tuple(sorted(in_doubt))
        super().__init__(
            f"The transaction was committed on {_names(self.committed)}, and not on {_names(self.failed)}"
            + (f"; what became of it on {_names(self.in_doubt)} is unknown" if self.in_doubt else "")
            + "; read what is there before you repeat anything, or use twophase=True"
        )

    def __reduce__(self) -> tuple[type, tuple[Collection[str], ...]]:
        return type(self), (self.committed, self.failed, self.in_doubt)


class TwoPhaseUnavailableError(ShardingError):
    """A server does not take part in two-phase commits."""


class ClockMovedBackError(ShardingError):
    """The clock of the machine went back further than an id generator waits."""


def _names(shards: Collection[str]) -> str:
    return ", ".join(map(repr, shards)) or "none"
