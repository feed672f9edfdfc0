"""Find and signal the servers' processes.

There are no pid files to go stale: a server carries its folder in its environment, and is found by it.
"""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

MARK: Final = "HEADRACE_SERVER_FOLDER"
LOG_BYTES: Final = 64 << 20
"""A log longer than this is begun anew at the next start."""
_CHILDREN: Final[dict[Path, list[subprocess.Popen[bytes]]]] = {}
"""What this process has started: it must be waited for, or it stays as a zombie."""


def spawn(folder: Path, command: list[str], log: Path) -> None:
    """Start a server's process in its folder, marked, with nothing of our environment but what programs need."""
    too_long = log.exists() and log.stat().st_size > LOG_BYTES
    with log.open("wb" if too_long else "ab") as output:
        child = subprocess.Popen(  # noqa: S603 the command is ours
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
    _CHILDREN.setdefault(folder, []).append(child)


def run(folder: Path, command: list[str], held: int) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, marked with a folder. It keeps a lock's file open while it lives, also without us."""
    return subprocess.run(  # noqa: S603 the command is ours
        command, env=_environment(folder), pass_fds=(held,), capture_output=True, text=True, check=False
    )


def find(folder: Path, *, below: bool = False) -> list[int]:
    """Return the living processes that were started for this folder (or, `below`, for any folder in it), oldest first.

    Only this user's processes (for root, everybody's) can be found.
    """
    found = {pid for started, pid in _children() if started == folder or (below and folder in started.parents)}
    for process in Path("/proc").glob("[0-9]*"):
        mark = _mark(process)
        if mark is not None and (mark == folder or (below and folder in mark.parents)):
            found.add(int(process.name))
    return sorted(found, key=_started)


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each process that still lives."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def ended(folder: Path, *, within_s: float, below: bool = False) -> bool:
    """Wait until no process of the folder lives; whether that came about in time."""
    deadline = time.monotonic() + within_s
    while find(folder, below=below):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def memory_mb(pid: int) -> int:
    """Return the memory that a process holds (resident set), in MiB."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used, user and system, in seconds."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _environment(folder: Path) -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {MARK: str(folder)}


def _children() -> list[tuple[Path, int]]:
    """This process's living children, which may be too young for their mark to be seen; the others are reaped."""
    for folder, children in list(_CHILDREN.items()):
        _CHILDREN[folder] = [child for child in children if child.poll() is None]
    return [(folder, child.pid) for folder, children in _CHILDREN.items() for child in children]


def _mark(process: Path) -> Path | None:
    try:
        environment = (process / "environ").read_bytes()
    except OSError:  # it has ended, or is another user's
        return None
    for setting in environment.split(b"\0"):
        name, _, value = setting.partition(b"=")
        if name == MARK.encode():
            return Path(value.decode())
    return None


def _started(pid: int) -> int:
    try:
        return int(_stat(pid)[19])
    except OSError:
        return 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command, which may itself hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
