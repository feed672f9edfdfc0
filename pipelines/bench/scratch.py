"""A place of its own for a bench, beside the configured one: other topics, another keyspace, another key prefix."""

import logging
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from headrace.pipelines.settings import Settings, read_settings
from headrace.pipelines.topics import INGEST, PARTITIONED, SINGLE
from headrace.pipelines.wiring import ADAPTERS
from headrace.schemas.errors import HeadraceError
from headrace.schemas.url import Url

logger = logging.getLogger(__name__)

_KEYSPACE_LETTERS: Final = 48
SCRATCH: Final = {"kafka": "kafka", "cassandra": "cassandra", "redis": "redis", "rediss": "redis"}
"""By a URL's scheme, the folder of sinks whose `scratch` removes its places."""
_TOPICS_AND_GROUPS: Final = ((*SINGLE, *PARTITIONED), (INGEST,))


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
    if part in {"policies", "mail"}:
        return f"file://{folder / part}"  # a bench writes none
    return f"sqlite://{folder / part}.db" if url.scheme == "sqlite" else url.text


def _remove(url: Url) -> None:
    """Remove a place; where that fails it is named, for a person to remove."""
    if url.scheme not in SCRATCH:
        return
    drop = import_module(f"headrace.sinks.{SCRATCH[url.scheme]}.scratch").drop  # drivers are slow to load
    try:
        drop(url, *(_TOPICS_AND_GROUPS if url.scheme == "kafka" else ()))
    except HeadraceError as error:
        logger.warning("%s is left behind: %s", url, error)
