"""The servers that a person keeps: `make up`, `make status`, `make down`.

Everything lies in `.local/`: `servers/` (data, configuration, logs, and `plan`: nodes and ports), `env` (the settings
to export) and `jars/`. What runs is found by asking the machine, not from pid files, so a crash half-way leaves nothing
that confuses the next `up`.
"""

import json
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from local_servers import install, ports, processes
from local_servers.cassandra import HOSTS, CassandraCluster
from local_servers.kafka import Kafka
from local_servers.redis import Redis
from local_servers.server import Server, ServerError, start, stop

CASSANDRA_HEAP_MB: Final = {1: 1024, 3: 768}
"""By the number of nodes."""


@dataclass(frozen=True)
class Plan:
    """How many Cassandra nodes there are, and where everything listens; `storage` is where nodes meet each other."""

    nodes: int = 1
    kafka: int = 9092
    cassandra: int = 9042
    storage: int = 7000
    redis: int = 6379


DEFAULT: Final = Plan()


class Local:
    """The servers of one folder.

    Args:
        home: the folder.
        say: gets each line that a person should read.
        preferred: the ports to take when they are free.
    """

    def __init__(self, home: Path = install.HOME, *, say: Callable[[str], None], preferred: Plan = DEFAULT) -> None:
        self.home = home.resolve()
        self.folder = self.home / "servers"
        self.env = self.home / "env"
        self._plan_file = self.folder / "plan"
        self._say = say
        self._preferred = preferred

    def up(self, nodes: int | None = None) -> dict[str, str]:
        """Start what doesn't run, wait until everything answers; return the settings, which `env` then holds too.

        Args:
            nodes: Cassandra nodes, 1 or 3; as many as there are data of (at first 1) if None.
        """
        with install.lock(self.home):
            plan = self._make_plan(nodes)
            stack = Stack(self.folder, plan)
            new = [server for server in stack.servers if server.pid is None]
            if new:
                self._say(f"starting {', '.join(server.name for server in new)}")
            stack.start()
            for server in stack.servers:
                self._say(f"{describe(server)}: {'up' if server in new else 'already up'}")
            settings = stack.settings()
            self.env.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
            return settings

    def status(self) -> list[tuple[Server, bool]]:
        """Return every server that was ever started here, and whether it answers now."""
        plan = self._recorded()
        servers = Stack(self.folder, plan).servers if plan else []
        return [(server, server.pid is not None and server.healthy()) for server in servers]

    def down(self, *, purge: bool = False) -> None:
        """Stop everything cleanly; `purge` then drops the data, the logs and the plan."""
        with install.lock(self.home):
            running = [server for server, _ in self.status() if server.pid is not None]
            stop(*running)
            processes.signal_all(processes.find(self.folder, below=True), signal.SIGKILL)  # of a plan that was lost
            for server in running:
                self._say(f"{server.name}: stopped")
            if not running:
                self._say("nothing was up")
            self.env.unlink(missing_ok=True)
            if purge:
                shutil.rmtree(self.folder, ignore_errors=True)
                self._say(f"dropped {self.folder}")

    def _make_plan(self, nodes: int | None) -> Plan:
        """Decide nodes and ports, and record them before anything starts."""
        recorded = self._recorded()
        if recorded and nodes not in {None, recorded.nodes}:
            raise ServerError(
                f"the data in {self.folder} are of {recorded.nodes} Cassandra node(s), not of {nodes}: "
                "keep that number, or drop the data with `make down PURGE=1`"
            )
        wanted = replace(self._preferred, nodes=recorded.nodes if recorded else nodes or 1)
        plan = self._choose_ports(wanted, recorded or wanted)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._plan_file.write_text(json.dumps(asdict(plan)))
        return plan

    def _choose_ports(self, wanted: Plan, recorded: Plan) -> Plan:
        """Keep the ports of what runs; else take those that are wanted, or others if somebody has taken them."""
        hosts = HOSTS[: wanted.nodes]
        cassandra_runs = self._runs("cassandra")
        return Plan(
            nodes=wanted.nodes,
            kafka=recorded.kafka if self._runs("kafka") else self._free("Kafka", wanted.kafka),
            redis=recorded.redis if self._runs("redis") else self._free("Redis", wanted.redis),
            cassandra=recorded.cassandra if cassandra_runs else self._free("Cassandra", wanted.cassandra, hosts),
            # Nodes know each other by it, so it belongs to the data.
            storage=recorded.storage
            if cassandra_runs or self._plan_file.exists()
            else self._free("Cassandra's nodes", wanted.storage, hosts),
        )

    def _free(self, name: str, port: int, hosts: Sequence[str] = (ports.LOOPBACK,)) -> int:
        if ports.is_free(port, hosts):
            return port
        other = ports.free_port(hosts)
        self._say(f"{name}: port {port} is taken by {ports.holder(port)}; taking {other}")
        return other

    def _runs(self, name: str) -> bool:
        return bool(processes.find(self.folder / name, below=True))

    def _recorded(self) -> Plan | None:
        if not self._plan_file.exists():
            return None
        return Plan(**json.loads(self._plan_file.read_text()))


class Stack:
    """The servers of a plan."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.kafka = Kafka(folder / "kafka", port=plan.kafka)
        self.redis = Redis(folder / "redis", port=plan.redis)
        self.cassandra = CassandraCluster(
            folder / "cassandra",
            nodes=plan.nodes,
            port=plan.cassandra,
            storage_port=plan.storage,
            heap_mb=CASSANDRA_HEAP_MB[plan.nodes],
        )

    @property
    def servers(self) -> list[Server]:
        """Every server, the slowest first."""
        return [*self.cassandra.nodes, self.redis, self.kafka]

    def start(self) -> None:
        """Start what doesn't run, as much as possible at the same time."""
        start(*self.servers)
        self.cassandra.wait()

    def settings(self) -> dict[str, str]:
        """Return what to export."""
        return {
            "HEADRACE_LOG": self.kafka.url,
            "HEADRACE_INDEX": self.cassandra.url,
            "HEADRACE_CACHE": self.redis.url,
            "HEADRACE_POLICIES": self.cassandra.url,
        }


def describe(server: Server) -> str:
    """Name a server, where it listens, and its process and memory if it runs."""
    pid = server.pid
    process = f"pid {pid}, {processes.memory_mb(pid)} MiB" if pid is not None else "not running"
    version = install.versions()[f"{server.name.upper()}_VERSION"]
    return f"{server.name} {version} on {server.host}:{server.port} ({process})"
