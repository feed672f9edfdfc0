"""Where a job serves its metrics and its health: HOST:PORT, loopback unless told otherwise, or off."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from headrace.schemas.errors import SettingsError

OFF: Final = "off"
DEFAULT_PORT: Final = 9464
SERVE_PORT: Final = 8080
MORE_PORTS: Final = 20
"""How many ports after the default one are tried: several jobs run on one machine."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. more_ports: how many after `port` will do as well. No host: nowhere."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    more_ports: int = 0

    def __str__(self) -> str:
        """Return it as the option has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.host else OFF

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine's own programs can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(value: object, option: str = "--metrics") -> Address:
    """Read HOST:PORT or off; raises SettingsError. Port 0 is any that is free."""
    if isinstance(value, Address):
        return value
    text = str(value)
    if text.lower() == OFF:
        return Address("", 0)
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    or_off = f", or {OFF}" if option == "--metrics" else ""
    if not host or ("[" not in text and ":" in host) or not port.isdecimal() or int(port) > 65_535:
        raise SettingsError(f"{option} {text!r}: write HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}{or_off}")
    return Address(host, int(port))
