"""What the three servers have in common: start, stop, kill, pause, resume, wait until healthy."""

import signal
import string
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from local_servers import ports, processes

CONFIG: Final = Path(__file__).resolve().parent.parent / "servers"
"""infra/local: versions, poms and configuration templates."""
LOG_LINES: Final = 15


class ServerError(Exception):
    """A server can't be had: what failed, why, what to do."""


class Server(ABC):
    """One server process on loopback, with its data, configuration and log in one folder.

    The folder alone is its identity: another `Server` of the same folder finds the running process again.

    Args:
        folder: where data, configuration and log lie; made if it is missing.
        port: where clients connect; a free one if None.
        host: the loopback address to listen on.
    """

    name: str
    start_s: float = 90.0
    """Seconds after which a server that does not answer is given up."""
    stop_s: float = 30.0
    """Seconds after SIGTERM until SIGKILL."""

    def __init__(self, folder: Path, *, port: int | None = None, host: str = ports.LOOPBACK) -> None:
        self.folder = folder.resolve()
        self.host = host
        self.port = port or ports.free_port((host,))

    @property
    @abstractmethod
    def url(self) -> str:
        """What HEADRACE_... is set to."""

    @abstractmethod
    def command(self) -> list[str]:
        """Write the configuration and return the command that runs the server in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server answers its own protocol; OSError counts as no."""

    @property
    def listens(self) -> list[int]:
        """The ports that it needs."""
        return [self.port]

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.folder / "log"

    @property
    def data(self) -> Path:
        """Where the data lie."""
        return self.folder / "data"

    @property
    def pid(self) -> int | None:
        """The process, or None if it doesn't run."""
        return next(iter(processes.find(self.folder)), None)

    def start(self) -> None:
        """Start the server and wait until it answers; nothing to do if it runs already."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the process if it doesn't run, and return at once. Raises ServerError if the port is taken."""
        if self.pid is not None:
            return
        for port in self.listens:
            if not ports.is_free(port, (self.host,)):
                raise ServerError(f"{self.name}: port {port} of {self.host} is taken by {ports.holder(port)}; stop it")
        self.data.mkdir(parents=True, exist_ok=True)
        processes.spawn(self.folder, self.command(), self.log)

    def wait(self) -> None:
        """Return when the server answers. Raises ServerError, with the log's end, if it ends or takes too long."""
        deadline = time.monotonic() + self.start_s
        while not self.healthy():
            if self.pid is None:
                raise ServerError(f"{self.name} has ended; its log {self.log} ends with:\n{self.log_end()}")
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{self.name} does not answer on {self.host}:{self.port} after {self.start_s:.0f} s; "
                    f"its log {self.log} ends with:\n{self.log_end()}"
                )
            time.sleep(0.05)

    def healthy(self) -> bool:
        """Whether the server answers its protocol now."""
        try:
            return self.answers()
        except OSError:
            return False

    def stop(self) -> None:
        """Stop cleanly with SIGTERM; after `stop_s`, SIGKILL. Nothing to do if it doesn't run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open, nothing answers."""
        processes.signal_all(processes.find(self.folder), signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        processes.signal_all(processes.find(self.folder), signal.SIGCONT)

    def log_end(self) -> str:
        """Return the last lines of the log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def configure(self, template: str, **values: object) -> Path:
        """Fill in a configuration template of infra/local, put it into the folder and return its path."""
        source = CONFIG / template
        text = string.Template(source.read_text()).substitute({name: str(value) for name, value in values.items()})
        target = self.folder / source.name
        target.write_text(text)
        return target

    def _end(self, number: signal.Signals) -> None:
        pids = processes.find(self.folder)
        processes.signal_all(pids, number)
        processes.signal_all(pids, signal.SIGCONT)  # a frozen process would sleep through SIGTERM
        if not processes.ended(self.folder, within_s=self.stop_s):
            processes.signal_all(processes.find(self.folder), signal.SIGKILL)
            if not processes.ended(self.folder, within_s=self.stop_s):
                raise ServerError(f"{self.name} (pid {self.pid}) does not end, not even on SIGKILL")


def start(*servers: Server) -> None:
    """Start several servers at the same time and wait until every one answers."""
    for server in servers:
        server.launch()
    for server in servers:
        server.wait()


def stop(*servers: Server) -> None:
    """Stop several servers cleanly at the same time."""
    with ThreadPoolExecutor(max(1, len(servers))) as pool:
        list(pool.map(lambda server: server.stop(), servers))
