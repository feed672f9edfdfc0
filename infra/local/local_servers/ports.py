"""Ports on loopback: which are free, and who has taken one."""

import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_BELOW_EPHEMERAL: Final = range(20_000, 32_000)
"""Where no client's outgoing connection can land, so that a stopped server finds its port free again."""
_LISTEN: Final = "0A"
COMMAND_LETTERS: Final = 80


def is_free(port: int, hosts: Sequence[str] = (LOOPBACK,)) -> bool:
    """Whether a server could listen on the port of every one of these addresses."""
    for host in hosts:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def free_port(hosts: Sequence[str] = (LOOPBACK,), taken: Sequence[int] = ()) -> int:
    """Return a random port that is free on every one of these addresses and not among `taken`."""
    candidates = random.SystemRandom().sample(_BELOW_EPHEMERAL, k=200)
    for port in candidates:
        if port not in taken and is_free(port, hosts):
            return port
    raise OSError(f"no free port on {', '.join(hosts)} among 200 tried in {_BELOW_EPHEMERAL}")


def holder(port: int) -> str:
    """Name the process that listens on a port: 'pid 42 (java -Xmx...)', or say that it can't be seen."""
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").glob("[0-9]*"):
        if inodes & _open_files(process):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            return f"pid {process.name} ({command[:COMMAND_LETTERS]})"
    return "another user's process"


def _open_files(process: Path) -> set[str]:
    links = set()
    with suppress(OSError):  # it has ended, or is another user's
        for link in (process / "fd").iterdir():
            with suppress(OSError):  # closed in the meantime
                links.add(str(link.readlink()))
    return links


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in (line.split() for line in lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]
