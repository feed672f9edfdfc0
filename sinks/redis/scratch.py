"""Remove what a bench has put on Redis."""

from collections.abc import Iterator
from contextlib import closing

from redis import Redis
from redis.exceptions import RedisError

from headrace.schemas.errors import UnavailableError
from headrace.schemas.url import Url
from headrace.sinks.redis.cache import DEFAULT_PREFIX, client

_AT_ONCE = 1_000


def drop(url: Url) -> None:
    """Remove the entries under the URL's prefix."""
    with closing(client(url)) as redis:
        for keys in _keys(redis, url):
            redis.unlink(*keys)


def _keys(redis: Redis, url: Url) -> Iterator[list[bytes | str]]:
    cursor = 0
    while True:
        try:
            cursor, keys = redis.scan(cursor, match=f"{url.options.get('prefix', DEFAULT_PREFIX)}*", count=_AT_ONCE)
        except RedisError as error:
            raise UnavailableError(f"the cache's keys can't be listed ({error})") from error
        if keys:
            yield keys
        if not cursor:
            return
