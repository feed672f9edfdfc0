"""What this process and the servers on this machine have used: CPU seconds and memory."""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil

from headrace.pipelines.settings import Settings
from headrace.schemas.url import Url

PORTS: Final = {"kafka": 9092, "cassandra": 9042, "redis": 6379, "rediss": 6379}
_LOOPBACK: Final = ("127.", "localhost", "[::1]")


def server_pids(settings: Settings) -> dict[str, int]:
    """Return the processes of the settings' servers, by scheme, as far as they run here and can be seen."""
    urls = {url.scheme: url for url in (settings.log, settings.index, settings.cache) if url.scheme in PORTS}
    listening: dict[int | None, int] = {}
    with suppress(psutil.Error):
        sockets = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        listening.update({c.laddr.port: c.pid for c in sockets if c.laddr and c.pid})
    found = {scheme: listening.get(_port(url)) for scheme, url in urls.items()}
    return {scheme: pid for scheme, pid in found.items() if pid is not None}


def _port(url: Url) -> int | None:
    """Return the port of a server on this machine; None where it is another's, or there are several."""
    place = url.host
    if "," in place or not place.startswith(_LOOPBACK):
        return None
    port = place.rpartition("]")[2].rpartition(":")[2] if ":" in place.rpartition("]")[2] else ""
    return int(port) if port.isdecimal() else PORTS[url.scheme]


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, user and system; 0 where that can't be seen."""
    with suppress(psutil.Error):
        return sum(psutil.Process(pid).cpu_times()[:2])
    return 0.0


def memory_mb(pid: int | None = None) -> float:
    """Return the resident memory of a process (this one unless told) in MB; 0 where that can't be seen."""
    with suppress(psutil.Error):
        return psutil.Process(pid).memory_info().rss / 1e6
    return 0.0


@dataclass(slots=True)
class UsageMeter:
    """Wall and CPU seconds since it was made or started: ours, and the servers' by scheme."""

    servers: dict[str, int]
    wall_s: float = 0.0
    own_cpu_s: float = 0.0
    server_cpu_s: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Begin."""
        self.server_cpu_s = {name: cpu_s(pid) for name, pid in self.servers.items()}
        self.wall_s, self.own_cpu_s = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End: from now on the fields are what was used in between."""
        self.own_cpu_s = time.process_time() - self.own_cpu_s
        self.wall_s = time.perf_counter() - self.wall_s
        self.server_cpu_s = {name: cpu_s(pid) - self.server_cpu_s[name] for name, pid in self.servers.items()}
