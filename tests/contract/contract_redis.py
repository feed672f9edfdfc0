"""Redis for the suites: every test has a prefix of its own."""

from pathlib import Path

from contract_servers import Redis
from contract_urls import opened, url_of

from headrace.schemas.ports import Cache


def netloc(server: Redis) -> str:
    return f"{server.host}:{server.port}"


def open_cache(server: Redis, folder: Path, **options: str) -> Cache:
    """Open Redis alone, without the level in this process."""
    options = {"prefix": f"{folder.name}:", "memory": "0", **options}
    found: Cache = opened("cache", url_of("redis", netloc(server), **options))
    return found
