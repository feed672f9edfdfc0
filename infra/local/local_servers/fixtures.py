"""Servers for tests: each is started once a session, when the first test asks for it, and all of them together."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_servers import Cassandra, CassandraCluster, Kafka, Redis, start, temporary


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """The folder of the session's servers."""
    with temporary() as folder:
        yield folder


@pytest.fixture(scope="session")
def servers(server_folder: Path) -> tuple[Kafka, Cassandra, Redis]:
    """Kafka, Cassandra (one node) and Redis, started at the same time. A test leaves them running as they were."""
    cassandra, redis, kafka = (
        Cassandra(server_folder / "cassandra"),
        Redis(server_folder / "redis"),
        Kafka(server_folder / "kafka"),
    )
    cassandra.quick = kafka.quick = True
    start(cassandra, redis, kafka)  # the slowest first
    return kafka, cassandra, redis


@pytest.fixture(scope="session")
def kafka(servers: tuple[Kafka, Cassandra, Redis]) -> Kafka:
    """A Kafka broker for every test: use topics of one's own."""
    return servers[0]


@pytest.fixture(scope="session")
def cassandra(servers: tuple[Kafka, Cassandra, Redis]) -> Cassandra:
    """A Cassandra node for every test: use a keyspace of one's own."""
    return servers[1]


@pytest.fixture(scope="session")
def redis(servers: tuple[Kafka, Cassandra, Redis]) -> Redis:
    """A Redis for every test: use keys of one's own."""
    return servers[2]


@pytest.fixture
def cassandra_cluster() -> Iterator[CassandraCluster]:
    """Three Cassandra nodes for one test, which may hurt them. About 2 GB and 20 s."""
    with temporary() as folder:
        cluster = CassandraCluster(folder)
        for node in cluster.nodes:
            node.quick = True
        cluster.start()
        yield cluster
