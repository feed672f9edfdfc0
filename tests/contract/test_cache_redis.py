"""What the Redis cache promises beyond the port: whatever happens to Redis is a miss, at once but for one time-out."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from contract_chunks import chunk
from contract_redis import netloc, open_cache
from contract_servers import Redis
from contract_urls import adapter, url_of

from headrace.schemas.chunk import ChunkRow
from headrace.schemas.errors import SettingsError, UnavailableError
from headrace.sinks.chunks import TwoLevels
from headrace.sinks.memory import MemoryCache
from headrace.sinks.redis import adapter as redis_adapter
from headrace.sinks.redis import cache as cache_redis
from headrace.sinks.redis.cache import RedisCache


class Timer:
    """A time that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def cache(redis: Redis, tmp_path: Path, timer: Timer) -> Iterator[RedisCache]:
    client = cache_redis.client(url_of("redis", netloc(redis)))
    with closing(RedisCache(client, prefix=f"{tmp_path.name}:", timer=timer)) as opened:
        yield opened


@pytest.fixture
def rows(name: str) -> list[ChunkRow]:
    return [chunk(name, segment=segment) for segment in range(4)]


def put(cache: RedisCache | TwoLevels, rows: list[ChunkRow]) -> None:
    cache.put([(row.reference, row.payload) for row in rows])


def found(cache: RedisCache | TwoLevels, rows: list[ChunkRow]) -> int:
    """Look the rows up; whatever comes is theirs. Return how many came."""
    payloads = cache.get([row.reference for row in rows])
    assert [payload in {None, row.payload} for payload, row in zip(payloads, rows, strict=True)] == [True] * len(rows)
    return len(rows) - payloads.count(None)


def taken_s(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def test_a_redis_that_dies_is_a_miss_until_it_is_back(
    redis: Redis, cache: RedisCache, rows: list[ChunkRow], timer: Timer
) -> None:
    put(cache, rows)
    assert (found(cache, rows), cache.hits, cache.misses) == (4, 4, 0)
    redis.kill()
    assert found(cache, rows) == 0
    put(cache, rows)
    redis.start()
    assert (found(cache, rows), cache.errors) == (0, 1), "it is left alone for a moment"
    timer.now_s += 0.2
    assert found(cache, rows) == 0, "it has forgotten everything"
    put(cache, rows)
    assert (found(cache, rows), cache.errors, cache.misses) == (4, 1, 12)


def test_a_redis_that_is_flushed_is_a_miss(redis: Redis, cache: RedisCache, rows: list[ChunkRow]) -> None:
    put(cache, rows)
    cache._client.flushall()
    assert (found(cache, rows), cache.errors) == (0, 0)


def test_a_redis_that_hangs_costs_one_time_out(
    redis: Redis, cache: RedisCache, rows: list[ChunkRow], timer: Timer
) -> None:
    put(cache, rows)
    redis.pause()
    try:
        assert 0.3 < taken_s(lambda: found(cache, rows)) < 1.5
        assert taken_s(lambda: [(found(cache, rows), put(cache, rows)) for _ in range(1_000)]) < 0.3
    finally:
        redis.resume()
    timer.now_s += 0.2
    assert (found(cache, rows), cache.errors) == (4, 1)


def test_what_fails_again_and_again_is_tried_ever_less_often(
    redis: Redis, cache: RedisCache, rows: list[ChunkRow], timer: Timer
) -> None:
    redis.kill()
    try:
        for _ in range(6_000):
            found(cache, rows)
            timer.now_s += 0.01
    finally:
        redis.start()
    assert 8 <= cache.errors <= 13  # .1 + .2 + ... + 6.4 s, then every 10 s
    timer.now_s += 10
    put(cache, rows)
    assert found(cache, rows) == 4


def test_a_redis_that_is_full_is_still_read(redis: Redis, cache: RedisCache, rows: list[ChunkRow]) -> None:
    put(cache, rows[:2])
    with setting(cache, "maxmemory-policy", "noeviction"), setting(cache, "maxmemory", "1"):
        put(cache, rows)
        assert (found(cache, rows), cache.errors) == (2, 1)


@contextmanager
def setting(cache: RedisCache, name: str, value: str) -> Iterator[None]:
    before = cache._client.config_get(name)[name]
    cache._client.config_set(name, value)
    try:
        yield
    finally:
        cache._client.config_set(name, before)


def test_a_wrong_password_is_said_in_one_line(redis: Redis, cache: RedisCache) -> None:
    with setting(cache, "requirepass", "right"):
        for credentials in ("", ":secret@", "somebody:secret@"):
            with pytest.raises(SettingsError, match=r"redis://127.0.0.1:\d+/0 refuses access .*password") as caught:
                cache_redis.open_cache(url_of("redis", credentials + netloc(redis)))
            assert "secret" not in str(caught.value)
        cache_redis.open_cache(url_of("redis", f":right@{netloc(redis)}", "1")).close()


def test_a_redis_that_is_down_at_the_start_is_no_error(redis: Redis, rows: list[ChunkRow]) -> None:
    with closing(cache_redis.open_cache(url_of("redis", "127.0.0.1:1", memory="0"))) as cache:
        assert isinstance(cache, RedisCache)
        assert (found(cache, rows), cache.errors) == (0, 1)
        with pytest.raises(UnavailableError, match=r"redis://127.0.0.1:1/0 does not answer.*every lookup is a miss"):
            cache.about()


@pytest.mark.parametrize(
    ("place", "path", "options", "message"),
    [
        ("", "", {}, "write redis://host"),
        ("a:b", "", {}, "write redis://host"),
        ("a", "/x", {}, "write redis://host"),
        ("a", "", {"memory": "1 MB"}, "memory is '1 MB'"),
        ("a", "", {"ttl_days": "x"}, "ttl_days is 'x'"),
    ],
)
def test_a_url_that_can_t_be_used(place: str, path: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        cache_redis.open_cache(url_of("redis", f"user:secret@{place}", path, **options))
    assert "secret" not in str(caught.value)


def test_a_database_that_redis_lacks_is_said(redis: Redis) -> None:
    with pytest.raises(SettingsError, match="DB index"):
        cache_redis.open_cache(url_of("redis", netloc(redis), "999"))


def test_entries_leave_by_their_time_to_live(redis: Redis, tmp_path: Path, rows: list[ChunkRow]) -> None:
    with closing(open_cache(redis, tmp_path, ttl_days="2")) as cache:
        assert isinstance(cache, RedisCache)
        put(cache, rows)
        assert found(cache, rows) == 4
        assert {round(cache._client.ttl(key) / 86_400, 3) for key in cache._client.scan_iter(f"{tmp_path.name}:*")} == {
            2
        }


def test_two_headraces_that_share_a_redis_stay_apart(redis: Redis, tmp_path: Path, rows: list[ChunkRow]) -> None:
    with closing(open_cache(redis, tmp_path)) as one, closing(open_cache(redis, tmp_path, prefix="other:")) as other:
        one.put([(rows[0].reference, b"one")])
        other.put([(rows[0].reference, b"other")])
        assert one.get([rows[0].reference]) == [b"one"]
        assert other.get([rows[0].reference]) == [b"other"]


def test_hundreds_are_asked_for_in_a_few_rounds(cache: RedisCache, name: str) -> None:
    rows = [chunk(name, segment=segment, rows=1) for segment in range(300)]
    put(cache, rows[::2])
    assert found(cache, rows) == 150
    assert (cache.hits, cache.misses) == (150, 150)


def test_what_is_near_does_not_cross_the_socket(redis: Redis, tmp_path: Path, rows: list[ChunkRow]) -> None:
    with closing(open_cache(redis, tmp_path, memory="1000000")) as cache:
        assert isinstance(cache, TwoLevels)
        assert isinstance(cache.far, RedisCache)
        put(cache, rows[:2])
        cache.far.put([(row.reference, row.payload) for row in rows[2:]])
        assert (found(cache, rows), cache.near.hits, cache.far.hits) == (4, 2, 2)
        assert (found(cache, rows), cache.near.hits, cache.far.hits) == (4, 6, 2)
        cache.near.close()
        assert (found(cache, rows), cache.far.hits) == (4, 6)


def test_two_levels_are_as_good_as_the_nearer_when_redis_dies(
    redis: Redis, cache: RedisCache, rows: list[ChunkRow]
) -> None:
    levels = TwoLevels(MemoryCache(1 << 20), cache)
    redis.kill()
    try:
        put(levels, rows[:2])
        assert found(levels, rows) == 2
    finally:
        redis.start()


def test_the_command_line_knows_the_options() -> None:
    assert adapter("cache", "rediss").options == (*redis_adapter.OPTIONS, *redis_adapter.TLS_OPTIONS)
    assert adapter("cache", "redis").options == redis_adapter.OPTIONS == ("prefix", "ttl_days", "memory")
