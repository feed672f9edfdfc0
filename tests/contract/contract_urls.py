"""Backends by URL, opened as jobs open them: by the adapter that wiring's table names."""

import time
from pkgutil import resolve_name
from typing import Any
from urllib.parse import urlencode

from headrace.pipelines.wiring import ADAPTERS
from headrace.schemas.ports import Adapter
from headrace.schemas.url import Url, parse_url


def clock() -> int:
    return time.time_ns() // 1_000_000


def url_of(scheme: str, place: str, path: str = "", **options: str) -> Url:
    query = f"?{urlencode(options)}" if options else ""
    return parse_url(f"{scheme}://{place}/{path.lstrip('/')}{query}")


def adapter(part: str, scheme: str) -> Adapter:
    found: Adapter = resolve_name(ADAPTERS[part][scheme])
    return found


def opened(part: str, url: str | Url, *, create: bool = True) -> Any:
    where = parse_url(url)
    return adapter(part, where.scheme).open(where, clock, create)
