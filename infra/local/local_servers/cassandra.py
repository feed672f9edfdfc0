"""Cassandra: the index. One node, or three with RF 3."""

import time
from pathlib import Path
from typing import Final

from local_servers import ports, probe
from local_servers.java_server import JavaServer
from local_servers.server import CONFIG, ServerError, start, stop

KEYSPACE: Final = "headrace"
HOSTS: Final = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
_RING: Final = 1 << 64
_ON_EVERY_NODE: Final = "SELECT keyspace_name FROM system_distributed.view_build_status LIMIT 1"
"""This keyspace has three replicas from the start: with consistency ALL, every node of three must answer."""


class Cassandra(JavaServer):
    """One Cassandra node.

    Args:
        folder: where data, configuration and log lie.
        port: where clients connect; a free one if None.
        host: the loopback address to listen on.
        storage_port: where nodes talk to each other: the same on all; a free one if None.
        place: this node's number in the ring, from 0.
        nodes: how many nodes the ring has; their addresses are the first of `HOSTS`.
    """

    name = "Cassandra"
    package = "cassandra"
    java_flags = (f"-Dlogback.configurationFile={CONFIG / 'cassandra' / 'logback.xml'}",)
    start_s = 180.0

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        host: str = ports.LOOPBACK,
        storage_port: int | None = None,
        place: int = 0,
        nodes: int = 1,
    ) -> None:
        super().__init__(folder, port=port, host=host)
        self.storage_port = storage_port or ports.free_port((host,), taken=(self.port,))
        self.place = place
        self.nodes = nodes

    @property
    def url(self) -> str:
        """What HEADRACE_INDEX and HEADRACE_POLICIES are set to."""
        return f"cassandra://{self.host}:{self.port}/{KEYSPACE}"

    @property
    def listens(self) -> list[int]:
        """The ports that it needs."""
        return [self.port, self.storage_port]

    def command(self) -> list[str]:
        """Write cassandra.yaml and return the command."""
        config = self.configure(
            "cassandra/cassandra.yaml",
            host=self.host,
            port=self.port,
            storage_port=self.storage_port,
            seeds=",".join(f"{host}:{self.storage_port}" for host in HOSTS[: self.nodes]),
            token=self.place * _RING // self.nodes - _RING // 2,
            data=self.data,
            memtable_mb=self.heap_mb // 5,
            commitlog_mb=self.heap_mb // 2,
        )
        (jamm,) = self.jars.glob("jamm-*.jar")
        command = self.java("org.apache.cassandra.service.CassandraDaemon")
        command[1:1] = [
            f"-Xbootclasspath/a:{jamm}",
            f"-javaagent:{jamm}",
            f"-Dcassandra.config={config.as_uri()}",
            f"-Dcassandra.storagedir={self.data}",
            f"-Dcassandra.logdir={self.folder}",
        ]
        return self.record(command)

    def answers(self) -> bool:
        """Whether the node answers CQL."""
        return probe.cassandra_rows(self.host, self.port, "SELECT key FROM system.local") == 1

    def sees_all(self) -> bool:
        """Whether every node of a ring of three serves, as this node sees it."""
        try:
            probe.cassandra_rows(self.host, self.port, _ON_EVERY_NODE, probe.ALL)
        except OSError:
            return False
        return True


class CassandraCluster:
    """Cassandra nodes on 127.0.0.1, .2 and .3, with the same port.

    Args:
        folder: each node has a folder in it.
        nodes: how many, 1 or 3.
        port: where clients connect, on every node; one that is free on all if None.
        storage_port: where nodes talk to each other; it belongs to the data and must not change.
        heap_mb: each node's heap.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = len(HOSTS),
        port: int | None = None,
        storage_port: int | None = None,
        heap_mb: int = Cassandra.heap_mb,
    ) -> None:
        hosts = HOSTS[:nodes]
        self.port = port or ports.free_port(hosts)
        storage_port = storage_port or ports.free_port(hosts, taken=(self.port,))
        self.nodes = [
            Cassandra(
                folder / f"node-{place + 1}",
                port=self.port,
                host=host,
                storage_port=storage_port,
                place=place,
                nodes=nodes,
            )
            for place, host in enumerate(hosts)
        ]
        for node in self.nodes:
            node.heap_mb = heap_mb

    @property
    def url(self) -> str:
        """What HEADRACE_INDEX and HEADRACE_POLICIES are set to."""
        if len(self.nodes) == 1:
            return self.nodes[0].url
        places = ",".join(f"{node.host}:{node.port}" for node in self.nodes)
        return f"cassandra://{places}/{KEYSPACE}?replication={len(self.nodes)}"

    def start(self) -> None:
        """Start all nodes at the same time, and wait until each sees every other."""
        start(*self.nodes)
        self.wait()

    def wait(self) -> None:
        """Return when each node sees every other. Raises ServerError if that takes too long."""
        deadline = time.monotonic() + Cassandra.start_s
        while len(self.nodes) > 1 and not all(node.sees_all() for node in self.nodes):
            if time.monotonic() > deadline:
                raise ServerError(f"Cassandra's nodes don't all see each other; see {self.nodes[0].log}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop every node cleanly."""
        stop(*self.nodes)
