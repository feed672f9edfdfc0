"""What a URL of a mail server may hold: `smtp://user:password@host:port?ca_file=...`, smtps for TLS at once.

Nothing goes over a network in the clear: `tls=off` is taken for this machine alone, where a relay may listen.
"""

import re
import ssl
from dataclasses import dataclass, field
from typing import Final

from headrace.schemas.errors import SettingsError
from headrace.schemas.url import Url

OPTIONS: Final = ("ca_file", "timeout_s", "tls")
PORTS: Final = {"smtp": 587, "smtps": 465}
DEFAULT_TIMEOUT_S: Final = 50
MAX_TIMEOUT_S: Final = 55
"""A mail may take it twice, and a job that is silent for 120 s counts as dead."""
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_HOST: Final = re.compile(r"(?P<name>[\w.-]+|\[[0-9a-fA-F:.]+\])(:(?P<port>\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """A mail server and how it is spoken to.

    shown: its URL without the secrets. at_once: TLS from the first byte. tls: None where in the clear. timeout_s: how
    long all may take until the message's end, and then the answer to that.
    """

    shown: str
    host: str
    port: int
    at_once: bool
    tls: ssl.SSLContext | None
    user: str | None
    password: str = field(repr=False)
    timeout_s: int


def parse_target(url: Url) -> Target:
    """Read a URL; raises SettingsError."""
    match = _HOST.fullmatch(url.host)
    port = int((match and match["port"]) or PORTS[url.scheme])
    if not match or not 0 < port < 65_536 or url.path.strip("/"):
        raise SettingsError(f"{url}: write {url.scheme}://host, {url.scheme}://host:port or user:password@ before them")
    timeout_s = url.whole("timeout_s", DEFAULT_TIMEOUT_S)
    if not 1 <= timeout_s <= MAX_TIMEOUT_S:
        raise SettingsError(f"{url}: timeout_s is {timeout_s}; 1 to {MAX_TIMEOUT_S} seconds are possible")
    if not (url.user or "").isascii() or not url.password.isascii() or (url.user is not None and not url.user):
        raise SettingsError(f"{url}: user and password must be there and ASCII, as SMTP has no other")
    host = match["name"].strip("[]")
    return Target(str(url), host, port, url.scheme == "smtps", _tls(url, host), url.user, url.password, timeout_s)


def _tls(url: Url, host: str) -> ssl.SSLContext | None:
    """Return the context: certificate and host name are checked, against the system's authorities or `ca_file`'s."""
    asked = url.options.get("tls", "on")
    if asked == "off" and url.scheme == "smtp" and host in LOOPBACK and "ca_file" not in url.options:
        return None
    if asked != "on":
        raise SettingsError(
            f"{url}: tls is {asked!r}; leave it out: only smtp:// on this machine ({', '.join(LOOPBACK)}) may have "
            "tls=off, without a ca_file"
        )
    try:
        return ssl.create_default_context(cafile=url.options.get("ca_file"))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{url}: ca_file can't be used ({error})") from error
