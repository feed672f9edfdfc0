"""What a URL of Redis may hold, and how it is opened: its driver is loaded only then, as that is slow."""

from typing import Any, Final

from headrace.schemas.ports import Adapter
from headrace.schemas.url import Url

OPTIONS: Final = ("prefix", "ttl_days", "memory")
"""What the query string may hold. memory: bytes of the level in this process, 0 for none."""
TLS_OPTIONS: Final = {"ca_file": "ssl_ca_certs", "cert_file": "ssl_certfile", "key_file": "ssl_keyfile"}
"""What it may hold besides after rediss:, by the driver's names."""


def open_cache(url: Url, *_: object) -> Any:
    """Open the cache."""
    from headrace.sinks.redis import cache  # noqa: PLC0415 the driver is slow to load

    return cache.open_cache(url)


PLAIN: Final = Adapter(open_cache, OPTIONS, driver="redis[hiredis]>=8")
TLS: Final = Adapter(open_cache, (*OPTIONS, *TLS_OPTIONS), driver="redis[hiredis]>=8")
