"""Where a keyspace of Cassandra is and how it is to be used: `cassandra://user:password@host:port,host/keyspace?...`."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from headrace.schemas.errors import SettingsError
from headrace.schemas.url import Url

OPTIONS: Final = ("replication", "consistency", "ttl_days", "datacenter", "tls", "ca_file", "cert_file", "key_file")
"""What the URL's query string may hold."""
DEFAULT_PORT: Final = 9042

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]/?#@]+)(?::(?P<port>\d{1,5}))?")
_KEYSPACE = re.compile(r"[a-z][a-z0-9_]{0,47}")
_REPLICATION = re.compile(r"\d+|[\w-]+:\d+(?:,[\w-]+:\d+)*")
_CONSISTENCIES: Final = ("ONE", "LOCAL_ONE", "QUORUM", "LOCAL_QUORUM", "EACH_QUORUM", "ALL")


@dataclass(frozen=True, slots=True)
class Target:
    """A keyspace's address. Printing it leaves user and password out.

    replication: as CREATE KEYSPACE wants it, None where the URL says nothing. consistency: None stands for
    LOCAL_QUORUM where there are replicas, LOCAL_ONE where there are none. ttl_s: None where the URL says nothing.
    """

    hosts: tuple[tuple[str, int], ...]
    keyspace: str
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)
    replication: dict[str, str] | None = None
    consistency: str | None = None
    ttl_s: int | None = None
    datacenter: str | None = None
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"cassandra://{','.join(f'{name}:{port}' for name, port in self.hosts)}/{self.keyspace}"


def parse_target(url: Url) -> Target:
    """Read a URL; raises SettingsError, which names what can't be used (never the password)."""
    options = url.options
    return Target(
        _hosts(url.host),
        _keyspace(url.path),
        url.user,
        url.password,
        replication=_replication(options["replication"]) if "replication" in options else None,
        consistency=_consistency(options["consistency"]) if "consistency" in options else None,
        ttl_s=_ttl_s(options["ttl_days"]) if "ttl_days" in options else None,
        datacenter=options.get("datacenter"),
        tls=_tls(options),
    )


def _hosts(places: str) -> tuple[tuple[str, int], ...]:
    found = [_HOST.fullmatch(place) for place in places.split(",")]
    hosts = [(m["name"].strip("[]"), int(m["port"] or DEFAULT_PORT)) for m in found if m]
    if len(hosts) < len(found) or any(not 0 < port < 65_536 for _, port in hosts):
        raise SettingsError(f"cassandra://{places}: write hosts as host, host:port or host:port,host:port")
    return tuple(hosts)


def _keyspace(path: str) -> str:
    name = path.strip("/")
    if not _KEYSPACE.fullmatch(name):
        raise SettingsError(
            f"keyspace {name!r}: write cassandra://host/keyspace, the keyspace in lower-case letters, digits and _"
        )
    return name


def _replication(text: str) -> dict[str, str]:
    if not _REPLICATION.fullmatch(text):
        raise SettingsError(f"cassandra: replication is {text!r}; write 3, or by data centre dc1:3,dc2:2")
    factors = {"replication_factor": text} if text.isdecimal() else dict(pair.split(":") for pair in text.split(","))
    return {"class": "NetworkTopologyStrategy", **factors}


def _consistency(text: str) -> str:
    if text.upper() not in _CONSISTENCIES:
        raise SettingsError(f"cassandra: consistency is {text!r}; known: {', '.join(_CONSISTENCIES)}")
    return text.upper()


def _ttl_s(text: str) -> int:
    if not text.isdecimal() or int(text) > 7_300:
        raise SettingsError(f"cassandra: ttl_days is {text!r}; write whole days, at most 7300, or 0 for ever")
    return int(text) * 86_400


def _tls(options: Mapping[str, str]) -> ssl.SSLContext | None:
    """Return the context: peers are verified, against the system's authorities or `ca_file`'s."""
    asked = options.get("tls", "yes" if "ca_file" in options else "no").lower()
    if asked not in {"yes", "no", "true", "false", "1", "0"}:
        raise SettingsError(f"cassandra: tls is {asked!r}; write yes or no")
    if asked in {"no", "false", "0"}:
        return None
    try:
        context = ssl.create_default_context(cafile=options.get("ca_file"))
        if "cert_file" in options:
            context.load_cert_chain(options["cert_file"], options.get("key_file"))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"cassandra: ca_file, cert_file or key_file can't be used ({error})") from error
    return context
