"""Redis for the suites: every test has a prefix of its own."""

from pathlib import Path

from contract_servers import Redis

from headrace.schemas.ports import Cache
from headrace.sinks import cache_redis


def netloc(server: Redis) -> str:
    return f"{server.host}:{server.port}"


def open_cache(server: Redis, folder: Path, **options: str) -> Cache:
    """Open Redis alone, without the level in this process."""
    return cache_redis.open_cache("redis", netloc(server), "", {"prefix": f"{folder.name}:", "memory": "0", **options})
