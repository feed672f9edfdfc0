"""Kafka: the log."""

import base64
import uuid
from pathlib import Path

from local_servers import install, ports, probe, processes
from local_servers.java_server import JavaServer
from local_servers.server import CONFIG, ServerError


class Kafka(JavaServer):
    """One Kafka process, broker and controller in one (KRaft)."""

    name = "Kafka"
    package = "kafka"
    java_flags = (f"-Dlog4j2.configurationFile={CONFIG / 'kafka' / 'log4j2.yaml'}",)
    session_ms = 3_000
    """How long the controller waits for a broker that says nothing."""

    def __init__(self, folder: Path, *, port: int | None = None, host: str = ports.LOOPBACK) -> None:
        super().__init__(folder, port=port, host=host)
        self.controller_port = ports.free_port((host,), taken=(self.port,))

    @property
    def url(self) -> str:
        """What HEADRACE_LOG is set to."""
        return f"kafka://{self.host}:{self.port}"

    def command(self) -> list[str]:
        """Write server.properties, format the data folder if it is new, and return the command.

        Whoever formats holds a lock: a formatter whose `up` was killed is waited for, and what it made is kept.
        """
        with install.lock(self.folder, "format") as held:
            config = self.configure(
                "kafka/server.properties",
                host=self.host,
                port=self.port,
                controller_port=self.controller_port,
                data=self.data,
                session_ms=self.session_ms,
            )
            if not (self.data / "meta.properties").exists():  # it is written last, and at once
                self._format(config, held)
        return self.record(self.java("kafka.Kafka", str(config)))

    def answers(self) -> bool:
        """Whether the broker is registered and serves."""
        return probe.kafka_brokers(self.host, self.port) == 1

    def _format(self, config: Path, held: int) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid5(uuid.NAMESPACE_URL, self.folder.as_uri()).bytes).decode()
        options = f"--cluster-id={cluster.rstrip('=')}", "-c", str(config)
        command = self.java("kafka.tools.StorageTool", "format", *options, heap_mb=128)
        done = processes.run(self.data, command, held)
        if done.returncode:
            raise ServerError(f"Kafka's data folder {self.data} can't be formatted: {done.stdout}{done.stderr}")
