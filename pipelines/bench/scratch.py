"""A place of its own for a bench, beside the configured one: other topics, another keyspace, another key prefix."""

import logging
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from headrace.pipelines.settings import Settings, read_settings
from headrace.pipelines.topics import INGEST, PARTITIONED, SINGLE
from headrace.pipelines.wiring import ADAPTERS
from headrace.schemas.errors import HeadraceError
from headrace.schemas.url import Url

logger = logging.getLogger(__name__)

GROUPS: Final = {"decode": f"{INGEST}.decode", "no store": f"{INGEST}.chunk", "whole": INGEST}
"""The group by which each depth of ingest reads."""
_KEYSPACE_LETTERS: Final = 48
_FILES: Final = {"log": "sqlite", "index": "sqlite", "policies": "file", "mail": "file"}


@contextmanager
def scratch(settings: Settings) -> Iterator[Settings]:
    """Give settings of the same backends, but of places that nobody else uses; what was made there is removed."""
    name = f"bench_{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        urls = {part: _moved(part, getattr(settings, part), name, Path(folder)) for part in ADAPTERS}
        found = read_settings(urls)
        try:
            yield found
        finally:
            for part in ("log", "index", "cache"):
                _remove(getattr(found, part))


def _moved(part: str, url: Url, name: str, folder: Path) -> str:
    parts = urlsplit(url.text)
    if url.scheme == "kafka":
        prefix = url.path.strip("/")
        return parts._replace(path=f"/{prefix}{'' if not prefix or prefix[-1] in '._-' else '.'}{name}").geturl()
    if url.scheme == "cassandra" and part == "index":
        keyspace = url.path.strip("/")[: _KEYSPACE_LETTERS - len(name) - 1]
        return parts._replace(path=f"/{keyspace}_{name}").geturl()
    if url.scheme in {"redis", "rediss"}:
        options = {**url.options, "prefix": f"{url.options.get('prefix', 'headrace:')}{name}:"}
        return parts._replace(query=urlencode(options)).geturl()
    if part in _FILES and part not in {"log", "index"}:
        return f"{_FILES[part]}://{folder / part}"  # a bench writes no policies and no mail
    return f"sqlite://{folder / part}.db" if url.scheme == "sqlite" else url.text


def _remove(url: Url) -> None:
    """Remove a place; where that fails it is named, for a person to remove."""
    remove = _REMOVERS.get(url.scheme)
    if remove is None:
        return
    try:
        remove(url)
    except HeadraceError as error:
        logger.warning("%s is left behind: %s", url, error)


# The drivers are slow to load.
def _drop_kafka(url: Url) -> None:
    from headrace.sinks.kafka import topics  # noqa: PLC0415

    topics.drop(url, (*SINGLE, *PARTITIONED), [*GROUPS.values()])


def _drop_cassandra(url: Url) -> None:
    from headrace.sinks.cassandra import keyspace  # noqa: PLC0415

    keyspace.drop(url)


def _drop_redis(url: Url) -> None:
    from headrace.sinks.redis import cache  # noqa: PLC0415

    cache.drop(url)


_REMOVERS: Final[Mapping[str, Callable[[Url], None]]] = {
    "kafka": _drop_kafka,
    "cassandra": _drop_cassandra,
    "redis": _drop_redis,
    "rediss": _drop_redis,
}
