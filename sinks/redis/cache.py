"""The cache on Redis: `redis://user:password@host:port/db?...`, rediss for TLS. Redis's death is a miss.

An entry's key is the reference's own fields after a prefix, and its value never changes, so that nothing is ever
invalidated. Two headraces that share a Redis stay apart by `prefix=` or by the database's number.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from headrace.schemas.errors import SettingsError, UnavailableError
from headrace.schemas.ports import Backend, Cache
from headrace.schemas.records import ChunkReference
from headrace.schemas.url import Url
from headrace.sinks.chunks import TwoLevels
from headrace.sinks.memory import MemoryCache
from headrace.sinks.redis.adapter import TLS_OPTIONS

logger = logging.getLogger(__name__)

DEFAULT_PREFIX: Final = "headrace:"
DEFAULT_PORT: Final = 6379
DEFAULT_MEMORY_BYTES: Final = 64 << 20

_TIMEOUT_S: Final = 0.5
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 10.0
_ASKED_AT_ONCE: Final = 128
_REFUSALS: Final = (AuthenticationError, AuthorizationError, NoPermissionError)
_REMOVED_AT_ONCE: Final = 1_000
_READ_BYTES: Final = 1 << 18


class _Breaker:
    """Says whether to try: after a failure not for a while, twice as long after each one that follows."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._open_until_s = float("-inf")
        self.wait_s = _FIRST_WAIT_S

    def allows(self) -> bool:
        return self._timer() >= self._open_until_s

    def succeeded(self) -> None:
        self.wait_s = _FIRST_WAIT_S

    def failed(self) -> None:
        if self.allows():
            self._open_until_s = self._timer() + self.wait_s
            self.wait_s = min(2 * self.wait_s, _LONGEST_WAIT_S)


class RedisCache(Backend):
    """The port `Cache`: one connection, used from one thread at a time.

    After a failure Redis is left alone for a while, twice as long after each, up to 10 s; meanwhile everything is a
    miss, at once. hits, misses: references asked of Redis. errors: failures since the start.
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = DEFAULT_PREFIX,
        ttl_s: int | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._ttl_s = ttl_s
        # A Redis that is full refuses writes, and may be read all the same.
        self._reads, self._writes = _Breaker(timer), _Breaker(timer)
        self.hits = 0
        self.misses = 0
        self.errors = 0

    def about(self) -> str:
        try:
            return f"Redis {self._client.info('server')['redis_version']}"
        except RedisError as error:
            if _refused(error):
                raise SettingsError(
                    f"{_place(self._client)} refuses access ({error}): check the user and the password of --cache"
                ) from error
            raise UnavailableError(
                f"{_place(self._client)} does not answer ({error}): check host and port, and that it runs; until then "
                "every lookup is a miss"
            ) from error

    def get(self, references: Sequence[ChunkReference]) -> list[bytes | None]:
        """Return each reference's payload, None on a miss; what Redis fails to answer is a miss."""
        found: list[bytes | None] = []
        for first in range(0, len(references), _ASKED_AT_ONCE):
            keys = self._keys(references[first : first + _ASKED_AT_ONCE])
            found += self._tried(self._reads, self._client.mget, keys) or [None] * len(keys)
        misses = found.count(None)
        self.misses += misses
        self.hits += len(found) - misses
        return found

    def put(self, entries: Sequence[tuple[ChunkReference, bytes]]) -> None:
        """Store payloads; what Redis fails to take is forgotten."""
        for first in range(0, len(entries), _ASKED_AT_ONCE):
            some = entries[first : first + _ASKED_AT_ONCE]
            values = dict(zip(self._keys([reference for reference, _ in some]), (p for _, p in some), strict=True))
            self._tried(self._writes, self._store, values)

    def _store(self, values: dict[str, bytes]) -> None:
        if self._ttl_s is None:
            self._client.mset(values)
            return
        pipeline = self._client.pipeline(transaction=False)
        for key, payload in values.items():
            pipeline.set(key, payload, ex=self._ttl_s)
        pipeline.execute()

    def _tried(self, breaker: _Breaker, call: Callable[[Any], Any], argument: object) -> Any:
        """Return what Redis says, None where it fails or has failed a moment ago."""
        if not breaker.allows():
            return None
        try:
            answer = call(argument)
        except RedisError as error:
            self._on_error(breaker, error)
            return None
        breaker.succeeded()
        return answer

    def _on_error(self, breaker: _Breaker, error: RedisError) -> None:
        self.errors += 1
        logger.warning("%s: %s; left alone for %.2g s", _place(self._client), error, breaker.wait_s)
        if isinstance(error, ResponseError):
            breaker.failed()
            return
        for each in (self._reads, self._writes):
            each.failed()
        self._client.connection_pool.disconnect()  # an answer that comes late must not be taken for another's

    def _keys(self, references: Sequence[ChunkReference]) -> list[str]:
        prefix = self._prefix
        return [
            f"{prefix}{r.task}/{r.group}/{r.start_ms}/{r.partition}/{r.segment}/{r.part}/{r.rows}/{r.checksum:08x}"
            for r in references
        ]

    def forget(self, task: str, end_ms: int) -> int:
        """Remove a task's entries before a time; whoever has them in memory keeps them while it runs."""
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix) + f"{task}/*"
        start, gone = len(self._prefix.encode()), 0
        try:
            keys = self._client.scan_iter(pattern, _REMOVED_AT_ONCE)
            old = (key for key in keys if int(key[start:].split(b"/")[2]) < end_ms)
            while some := [*islice(old, _REMOVED_AT_ONCE)]:
                gone += self._client.unlink(*some)
        except (RedisError, ValueError, IndexError) as error:
            raise UnavailableError(f"{_place(self._client)}: its entries can't be removed ({error})") from error
        return gone

    def counters(self) -> Mapping[tuple[str, ...], float]:
        return {("redis", "hit"): self.hits, ("redis", "miss"): self.misses, ("redis", "error"): self.errors}

    def close(self) -> None:
        self._client.close()


def open_cache(url: Url) -> Cache:
    """Open Redis, and before it a level in this process.

    Raises SettingsError where a part can't be used or Redis refuses us; a Redis that is down is no error.
    """
    prefix, ttl_s = url.options.get("prefix", DEFAULT_PREFIX), url.whole("ttl_days", 0) * 86_400 or None
    memory_bytes = url.whole("memory", DEFAULT_MEMORY_BYTES)
    cache = RedisCache(client(url), prefix=prefix, ttl_s=ttl_s)
    try:
        logger.debug("%s", cache.about())
    except UnavailableError as error:
        logger.warning("%s", error)
    except SettingsError:
        cache.close()
        raise
    return TwoLevels(MemoryCache(memory_bytes), cache) if memory_bytes else cache


def client(url: Url) -> Redis:
    """Return a client of the URL's Redis; raises SettingsError where a part can't be used."""
    place = url.host
    host, _, port = place.rpartition(":") if ":" in place.rpartition("]")[2] else (place, "", str(DEFAULT_PORT))
    database = url.path.strip("/") or "0"
    if not host or not port.isdecimal() or not database.isdecimal():
        raise SettingsError(
            f"{url.scheme}://{place}{url.path}: write {url.scheme}://host, {url.scheme}://host:port or "
            f"{url.scheme}://host/1"
        )
    return Redis(
        host=host.strip("[]"),
        port=int(port),
        db=int(database),
        username=url.user or None,
        password=None if url.user is None else url.password,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        socket_read_size=_READ_BYTES,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=False,
        **_tls(url),
    )


def drop(url: Url) -> None:
    """Remove the entries under the URL's prefix."""
    with closing(client(url)) as redis:
        keys = redis.scan_iter(f"{url.options.get('prefix', DEFAULT_PREFIX)}*", _REMOVED_AT_ONCE)
        try:
            while some := [*islice(keys, _REMOVED_AT_ONCE)]:
                redis.unlink(*some)
        except RedisError as error:
            raise UnavailableError(f"the cache's entries can't be removed ({error})") from error


def _tls(url: Url) -> dict[str, Any]:
    if url.scheme != "rediss":
        return {}
    return {"ssl": True, **{TLS_OPTIONS[name]: value for name, value in url.options.items() if name in TLS_OPTIONS}}


def _refused(error: RedisError) -> bool:
    """Tell whether Redis wants other credentials (WRONGPASS, NOAUTH, NOPERM), or has none of what was asked for."""
    return isinstance(error, _REFUSALS) or (isinstance(error, ResponseError) and "DB index" in str(error))


def _place(client: Redis) -> str:
    settings = client.connection_pool.connection_kwargs
    return f"redis://{settings['host']}:{settings['port']}/{settings['db']}"
