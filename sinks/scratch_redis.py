"""Remove what a bench has put on Redis."""

from collections.abc import Iterator, Mapping
from contextlib import closing

from redis import Redis
from redis.exceptions import RedisError

from headrace.schemas.errors import UnavailableError
from headrace.sinks.cache_redis import DEFAULT_PREFIX, client

_AT_ONCE = 1_000


def drop(scheme: str, netloc: str, path: str, options: Mapping[str, str]) -> None:
    """Remove the entries under the URL's prefix."""
    with closing(client(scheme, netloc, path, options)) as redis:
        for keys in _keys(redis, options):
            redis.unlink(*keys)


def _keys(redis: Redis, options: Mapping[str, str]) -> Iterator[list[bytes | str]]:
    cursor = 0
    while True:
        try:
            cursor, keys = redis.scan(cursor, match=f"{options.get('prefix', DEFAULT_PREFIX)}*", count=_AT_ONCE)
        except RedisError as error:
            raise UnavailableError(f"the cache's keys can't be listed ({error})") from error
        if keys:
            yield keys
        if not cursor:
            return
