"""What this process and the servers on this machine have used: CPU seconds and memory, from /proc."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from headrace.pipelines.settings import Settings
from headrace.schemas.url import Url

PORTS: Final = {"kafka": 9092, "cassandra": 9042, "redis": 6379, "rediss": 6379}
_LOOPBACK: Final = ("127.", "localhost", "[::1]")
_LISTEN: Final = "0A"


def server_pids(settings: Settings) -> dict[str, int]:
    """Return the processes of the settings' servers, by scheme, as far as they run here and can be seen."""
    urls = {url.scheme: url for url in (settings.log, settings.index, settings.cache) if url.scheme in PORTS}
    found = {scheme: _listener(port) for scheme, url in urls.items() for port in _ports(url)}
    return {scheme: pid for scheme, pid in found.items() if pid is not None}


def _ports(url: Url) -> list[int]:
    place = url.host
    if "," in place or not place.startswith(_LOOPBACK):
        return []
    port = place.rpartition("]")[2].rpartition(":")[2] if ":" in place.rpartition("]")[2] else ""
    return [int(port) if port.isdecimal() else PORTS[url.scheme]]


def _listener(port: int) -> int | None:
    """Return the process that listens on a port; None where there is none, or it is another user's."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        with suppress(OSError):
            if any(str(link.readlink()) in inodes for link in (process / "fd").iterdir()):
                return int(process.name)
    return None


def _listening(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for fields in (line.split() for line in Path(table).read_text().splitlines()[1:]):
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, user and system; 0 where that can't be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int | None = None) -> float:
    """Return the resident memory of a process (this one unless told) in MB; 0 where that can't be seen."""
    try:
        pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(slots=True)
class Meter:
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
