"""Stamps in Redis, for any number of processes and machines.

One hash holds the generation ``g``, the epoch ``n`` and the leases in flight; each tag is a string of its own, ``generation:epoch``, that
goes after some days without a write, which costs a miss. Every step is one Lua script, hence atomic, and all of them are *one* script on
purpose: a server that has been restarted, or a replica that has taken over, does not have it, and is told it by way of its operation
``generation``. Data from before a crash, which may lack the stamps of the last writes, are so void before anything reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Protocol, Self, cast

from ..exceptions import InvalidArgumentError
from ._stamps import Epoch, Snapshot, StampsUnavailableError, new_nonce

__all__ = ("RedisClient", "RedisStamps")

# KEYS: the hash, then the keys of tags. ARGV: operation, a nonce for a new generation, seconds that a stamp is kept, then of the operation
# mark: the lease, its seconds or 0; done: the lease; generation: 1 to drop leases.
_SCRIPT: Final = """
local main, operation, keep = KEYS[1], ARGV[1], tonumber(ARGV[3])
local generation, leases = nil, {}
local fields = redis.call('HGETALL', main)
for i = 1, #fields, 2 do
  if fields[i] == 'g' then generation = fields[i + 1]
  elseif fields[i] ~= 'n' then leases[fields[i]] = fields[i + 1] end
end
if generation == nil or operation == 'generation' then
  generation = ARGV[2]
  redis.call('HSET', main, 'g', generation)
  redis.call('HINCRBY', main, 'n', 1)
end
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function bump()
  return string.format('%d', redis.call('HINCRBY', main, 'n', 1))
end
local function stamp(key, number)
  redis.call('SET', key, generation .. ':' .. number, 'EX', keep)
end
local function finish(field)
  local number = bump()
  for i = 2, #KEYS do if operation ~= 'read' then stamp(KEYS[i], number) end end
  local first = true
  for key in string.gmatch(leases[field] or '', '[^\\n]+') do
    if first then first = false else stamp(key, number) end
  end
  redis.call('HDEL', main, field)
  leases[field] = nil
end
local fresh = nil
local answer = {generation, '0', '0'}
if operation == 'read' then
  local leased, expired, moment = {}, {}, nil
  for field, lease in pairs(leases) do
    moment = moment or now()
    local deadline = tonumber(string.match(lease, '^[^\\n]+'))
    if deadline > 0 and deadline <= moment then
      expired[#expired + 1] = field
    else
      for key in string.gmatch(lease, '[^\\n]+') do leased[key] = true end
    end
  end
  for _, field in ipairs(expired) do finish(field) end
  local head = generation .. ':'
  for i = 2, #KEYS do
    local value = redis.call('GET', KEYS[i])
    if value and string.sub(value, 1, #head) == head then
      answer[#answer + 1] = string.sub(value, #head + 1)
    else
      fresh = fresh or bump()
      stamp(KEYS[i], fresh)
      answer[#answer + 1] = fresh
    end
    answer[#answer + 1] = leased[KEYS[i]] and '1' or '0'
  end
elseif operation == 'mark' then
  local number, seconds = bump(), tonumber(ARGV[5])
  local lease = {string.format('%.6f', seconds > 0 and now() + seconds or 0)}
  for i = 2, #KEYS do
    stamp(KEYS[i], number)
    lease[#lease + 1] = KEYS[i]
  end
  redis.call('HSET', main, ARGV[4], table.concat(lease, '\\n'))
elseif operation == 'done' then
  finish(ARGV[4])
elseif operation == 'touch' then
  local number = bump()
  for i = 2, #KEYS do stamp(KEYS[i], number) end
elseif operation == 'generation' and ARGV[4] == '1' then
  for field in pairs(leases) do redis.call('HDEL', main, field) end
end
answer[2] = redis.call('HGET', main, 'n') or '0'
answer[3] = fresh and string.format('%d', tonumber(fresh) - 1) or answer[2]
return answer
"""
_DIGEST: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisClient(Protocol):
    """What `RedisStamps` needs of a client of redis-py."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its answer."""
        ...


class RedisStamps:
    """A stamp store in Redis 5 or later.

    :param client: a synchronous client of redis-py. Its timeouts and retries are the time that a request of yours loses when Redis does
        not answer, and redis-py's own add up to many seconds: `from_url` and `like` make clients that give up soon.
    :param prefix: of all keys. Caches of one database need the same, also those of other applications that write to it.
    :param keep: seconds after which a tag that nobody writes is forgotten, and is a miss once.

    Redis must not lose writes that it has acknowledged while it goes on: a failover to a replica is noticed (the script is not there) and
    starts a new generation, if the server is Redis 7 or replicates scripts by their effects.
    """

    def __init__(
        self, client: RedisClient, *, prefix: str = "sqla_patterns:stamps", keep: float = 7 * 24 * 3600
    ) -> None:
        if keep < 1:
            raise InvalidArgumentError(f"RedisStamps(keep={keep!r}): keep stamps for one second at least.")
        import redis.exceptions

        self._client = client
        self._missing = redis.exceptions.NoScriptError
        self._faults = (redis.exceptions.RedisError, OSError)
        self._keep = int(keep)
        # The braces put all keys into one slot of a Redis Cluster.
        self._main = f"{{{prefix}}}"
        self._head = f"{{{prefix}}}:"

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str = "sqla_patterns:stamps", keep: float = 7 * 24 * 3600, timeout: float = 0.5
    ) -> Self:
        """Make a store with a client of its own, which gives up after `timeout` seconds."""
        import redis

        client: Any = redis.Redis.from_url(url, **_patience(timeout))  # pyright: ignore[reportUnknownMemberType]
        return cls(cast(RedisClient, client), prefix=prefix, keep=keep)

    @classmethod
    def like(
        cls, client: object, *, prefix: str = "sqla_patterns:stamps", keep: float = 7 * 24 * 3600, timeout: float = 0.5
    ) -> Self:
        """Make a store on the server of `client`, a ``redis.Redis``, with a client of its own as in `from_url`."""
        import redis

        pool: Any = getattr(client, "connection_pool", None)
        if type(pool) is not redis.ConnectionPool:
            # Sentinel, cluster and blocking pools find their servers by ways of their own, which must not be cut off.
            return cls(cast(RedisClient, client), prefix=prefix, keep=keep)
        settings: dict[str, Any] = {**pool.connection_kwargs, **_patience(timeout), "decode_responses": False}
        copy: Any = redis.ConnectionPool(connection_class=pool.connection_class, **settings)
        return cls(cast(RedisClient, redis.Redis(connection_pool=copy)), prefix=prefix, keep=keep)

    def read(self, tags: Collection[str]) -> Snapshot:
        """Return the epoch, the stamps and leases of `tags`."""
        names = list(tags)
        answer = self._run("read", names)
        stamps = {name: int(value) for name, value in zip(names, answer[3::2], strict=True)}
        leased = frozenset(name for name, flag in zip(names, answer[4::2], strict=True) if flag == "1")
        return Snapshot(_epoch(answer), stamps, leased, int(answer[2]))

    def epoch(self) -> Epoch:
        """Return the epoch alone."""
        return _epoch(self._run("epoch"))

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Epoch:
        """Stamp `tags` and lease them."""
        return _epoch(self._run("mark", tags, _field(lease), "0" if seconds is None else f"{seconds:.6f}"))

    def done(self, lease: str, tags: Collection[str] = ()) -> Epoch:
        """Stamp `tags` and those of the lease, and end it."""
        return _epoch(self._run("done", tags, _field(lease)))

    def touch(self, tags: Collection[str]) -> Epoch:
        """Stamp `tags`."""
        return _epoch(self._run("touch", tags))

    def new_generation(self, *, drop_leases: bool = False) -> Epoch:
        """Make every entry there is invalid."""
        return _epoch(self._run("generation", (), "1" if drop_leases else "0"))

    def __repr__(self) -> str:
        return f"<RedisStamps {self._main}>"

    def _run(self, operation: str, tags: Iterable[str] = (), *details: str) -> list[str]:
        keys = [self._main, *(self._head + tag.replace("\n", " ") for tag in tags)]
        arguments = (operation, new_nonce(), str(self._keep), *details)
        try:
            try:
                answer = self._client.execute_command("EVALSHA", _DIGEST, len(keys), *keys, *arguments)
            except self._missing:
                # The first contact ever, or the first after the server has started anew: see the module's docstring.
                first = ("generation", new_nonce(), str(self._keep), "0")
                self._client.execute_command("EVAL", _SCRIPT, 1, self._main, *first)
                answer = self._client.execute_command("EVALSHA", _DIGEST, len(keys), *keys, *arguments)
        except self._faults as error:
            raise StampsUnavailableError(f"{self!r} does not answer to {operation!r}: {error}") from error
        return [item.decode() if isinstance(item, bytes) else str(item) for item in cast("list[Any]", answer)]


def _patience(timeout: float) -> Mapping[str, Any]:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # One retry, at once: it is for connections that the server has closed in the meantime.
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 1)}


def _field(lease: str) -> str:
    return f"l:{lease}"


def _epoch(answer: list[str]) -> Epoch:
    return Epoch(answer[0], int(answer[1]))
