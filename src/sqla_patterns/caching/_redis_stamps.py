"""`RedisStamps`: a stamp store in Redis, for any number of processes and machines.

One hash holds everything: the generation ``g``, the epoch ``n``, the leases of commits under way ``l``, a field for
each tag that was written, the floor ``f`` (no other tag was written after this epoch), and ``a``, the time of the last
successful write of any process.

- A server that answers reads and refuses writes (disk full, too few replicas, a master that has become a replica) would
  make every reader believe that nothing is written. A read therefore writes ``a`` once a second, and fails where that
  fails.
- Redis can drop the hash as a whole, and a new generation begins then, but it cannot drop a single stamp in it.
- Every step is one run of a Lua script, hence atomic, and all steps are *one* script on purpose: a server that has been
  restarted, or a replica that has taken over, does not have the script. The client then sends it with its operation
  ``generation``, which makes all entries invalid before any is read, since that server may lack the stamps of the last
  writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Protocol, Self, cast

from ..exceptions import InvalidArgumentError
from ._stamps import Epoch, Snapshot, StampsUnavailableError, new_nonce

# KEYS: the hash. ARGV: operation, a nonce for a new generation, how many tags are kept, a lease or "", its seconds (0:
# no end), then tags. The operation "generation" drops leases if a lease is given.
_SCRIPT: Final = """
local hash, operation, most, name = KEYS[1], ARGV[1], tonumber(ARGV[3]), ARGV[4]
local FIRST, BEAT = 6, 1
local head = redis.call('HMGET', hash, 'g', 'n', 'f', 'l', 'a')
local generation, number, floor = head[1], head[2] or '0', head[3] or '0'
local leases = {}
if head[4] then leases = cmsgpack.unpack(head[4]) end
local function keep_leases()
  if next(leases) == nil then redis.call('HDEL', hash, 'l')
  else redis.call('HSET', hash, 'l', cmsgpack.pack(leases)) end
end
local function bump()
  number = string.format('%d', redis.call('HINCRBY', hash, 'n', 1))
end
local function restart(nonce)
  redis.call('DEL', hash)
  floor = number
  redis.call('HSET', hash, 'g', nonce, 'n', number, 'f', floor)
  generation = nonce
  keep_leases()
end
if not generation or operation == 'generation' then
  if operation == 'generation' and name ~= '' then leases = {} end
  number = string.format('%d', tonumber(number) + 1)
  restart(ARGV[2])
end
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function stamp(tag)
  redis.call('HSET', hash, 't' .. tag, number)
end
local function finish(lease)
  for i = 2, #leases[lease] do stamp(leases[lease][i]) end
  leases[lease] = nil
end
local answer = {generation, '0'}
if operation == 'read' or operation == 'epoch' then
  local moment, alive = now(), tonumber(head[5] or '0')
  if moment - alive >= BEAT or alive > moment then redis.call('HSET', hash, 'a', string.format('%.6f', moment)) end
end
if operation == 'read' then
  local leased = {}
  if next(leases) ~= nil then
    local moment, expired = now(), {}
    for lease, content in pairs(leases) do
      local deadline = tonumber(content[1])
      if deadline > 0 and deadline <= moment then expired[#expired + 1] = lease
      else for i = 2, #content do leased[content[i]] = true end end
    end
    if #expired > 0 then
      bump()
      for _, lease in ipairs(expired) do finish(lease) end
      keep_leases()
    end
  end
  for i = FIRST, #ARGV do
    answer[#answer + 1] = redis.call('HGET', hash, 't' .. ARGV[i]) or floor
    answer[#answer + 1] = leased[ARGV[i]] and '1' or '0'
  end
elseif operation == 'mark' or operation == 'touch' or operation == 'done' then
  bump()
  for i = FIRST, #ARGV do stamp(ARGV[i]) end
  if operation == 'mark' then
    local seconds = tonumber(ARGV[5])
    local lease = {string.format('%.6f', seconds > 0 and now() + seconds or 0)}
    for i = FIRST, #ARGV do lease[#lease + 1] = ARGV[i] end
    leases[name] = lease
    keep_leases()
  elseif operation == 'done' and leases[name] then
    finish(name)
    keep_leases()
  end
  if redis.call('HLEN', hash) > most then restart(generation) end
end
answer[2] = number
return answer
"""
_DIGEST: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisClient(Protocol):
    """The part of redis-py's client that `RedisStamps` calls."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its answer."""
        ...


class RedisStamps:
    """A stamp store in Redis 5 or later.

    Redis must not lose writes that it has acknowledged while it runs. A restart starts a new generation, and so does a
    failover to a replica that has never run the script. A replica that was the master before has run it and may lack
    the last stamps without a sign: call ``new_generation()`` after such a failover.

    Args:
        client: A synchronous client of redis-py. When Redis does not answer, a request of the application waits as long
            as the client does, and redis-py's default timeouts and retries add up to many seconds: `from_url` and
            `like` make clients that give up soon.
        prefix: The beginning of all keys. Caches of one database need the same, also those of other applications that
            write to it.
        max_tags: How many tags are kept; when there are more, all are forgotten and count as written then.
    """

    def __init__(self, client: RedisClient, *, prefix: str = "sqla_patterns:stamps", max_tags: int = 100_000) -> None:
        if max_tags < 1:
            raise InvalidArgumentError(f"RedisStamps(max_tags={max_tags!r}): keep one tag at least.")
        import redis.exceptions

        self._client = client
        self._missing = redis.exceptions.NoScriptError
        self._faults = (redis.exceptions.RedisError, OSError)
        # Five fields of the hash are no tags.
        self._most = max_tags + 5
        self._key = prefix

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str = "sqla_patterns:stamps", max_tags: int = 100_000, timeout: float = 0.5
    ) -> Self:
        """Make a store with a new client, which gives up after `timeout` seconds."""
        import redis

        client: Any = redis.Redis.from_url(url, **_client_settings(timeout))  # pyright: ignore[reportUnknownMemberType]
        return cls(cast(RedisClient, client), prefix=prefix, max_tags=max_tags)

    @classmethod
    def like(
        cls, client: object, *, prefix: str = "sqla_patterns:stamps", max_tags: int = 100_000, timeout: float = 0.5
    ) -> Self:
        """Make a store on the server of `client`, a ``redis.Redis``, with a new client as in `from_url`."""
        import redis

        pool: Any = getattr(client, "connection_pool", None)
        if type(pool) is not redis.ConnectionPool:
            # Sentinel, cluster and blocking pools find their servers in other ways, which a copy of the settings would
            # lose.
            return cls(cast(RedisClient, client), prefix=prefix, max_tags=max_tags)
        settings: dict[str, Any] = {**pool.connection_kwargs, **_client_settings(timeout), "decode_responses": False}
        copy: Any = redis.ConnectionPool(connection_class=pool.connection_class, **settings)
        return cls(cast(RedisClient, redis.Redis(connection_pool=copy)), prefix=prefix, max_tags=max_tags)

    def read(self, tags: Collection[str]) -> Snapshot:
        """Return the epoch, the stamps and the leases of `tags`."""
        names = list(tags)
        answer = self._run("read", names)
        stamps = {name: int(value) for name, value in zip(names, answer[2::2], strict=True)}
        leased = frozenset(name for name, flag in zip(names, answer[3::2], strict=True) if flag == "1")
        return Snapshot(_epoch(answer), stamps, leased)

    def epoch(self) -> Epoch:
        """Return the epoch alone."""
        return _epoch(self._run("epoch"))

    def mark(self, lease: str, tags: Collection[str], seconds: float | None) -> Epoch:
        """Stamp `tags` and lease them."""
        return _epoch(self._run("mark", tags, lease, "0" if seconds is None else f"{seconds:.6f}"))

    def done(self, lease: str, tags: Collection[str] = ()) -> Epoch:
        """Stamp `tags` and those of the lease, and end it."""
        return _epoch(self._run("done", tags, lease))

    def touch(self, tags: Collection[str]) -> Epoch:
        """Stamp `tags`."""
        return _epoch(self._run("touch", tags))

    def new_generation(self, *, drop_leases: bool = False) -> Epoch:
        """Make every existing entry invalid."""
        return _epoch(self._run("generation", (), "drop" if drop_leases else ""))

    def __repr__(self) -> str:
        return f"<RedisStamps {self._key!r}>"

    def _run(self, operation: str, tags: Iterable[str] = (), lease: str = "", seconds: str = "0") -> list[str]:
        most = str(self._most)
        arguments = (1, self._key, operation, new_nonce(), most, lease, seconds, *tags)
        try:
            try:
                answer = self._client.execute_command("EVALSHA", _DIGEST, *arguments)
            except self._missing:
                # The first request to this server ever, or since its last start: see the module's docstring.
                self._client.execute_command("EVAL", _SCRIPT, 1, self._key, "generation", new_nonce(), most, "", "0")
                answer = self._client.execute_command("EVALSHA", _DIGEST, *arguments)
        except self._faults as error:
            raise StampsUnavailableError(f"{self!r} does not answer to {operation!r}: {error}") from error
        return [item.decode() if isinstance(item, bytes) else str(item) for item in cast("list[object]", answer)]


def _client_settings(timeout: float) -> Mapping[str, Any]:
    """Return settings with which a client gives up soon."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # One retry, at once: it is for connections that the server has closed in the meantime.
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 1)}


def _epoch(answer: list[str]) -> Epoch:
    return Epoch(answer[0], int(answer[1]))
