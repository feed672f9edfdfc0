"""The servers that all tests share, and the three nodes."""

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster
from cassandra.query import SimpleStatement

from local_servers import processes


def test_the_three_come_up_together_and_answer(kafka, cassandra, redis):
    for server in (kafka, cassandra, redis):
        assert server.healthy()
        print(
            f"{server.name}: {server.url}, {processes.memory_mb(server.pid)} MiB, {processes.cpu_s(server.pid)} CPU-s"
        )
    assert kafka.url.startswith("kafka://127.0.0.1:")
    assert cassandra.url.endswith("/headrace")


@pytest.mark.long
def test_a_quorum_of_three_nodes_outlives_one(cassandra_cluster):
    first, second, third = cassandra_cluster.nodes
    with Cluster([first.host], port=cassandra_cluster.port) as cluster:
        session = cluster.connect()
        session.execute(
            "CREATE KEYSPACE ring WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 3}"
        )
        session.execute("CREATE TABLE ring.rows (key int PRIMARY KEY)")
        third.kill()
        session.execute(
            SimpleStatement("INSERT INTO ring.rows (key) VALUES (1)", consistency_level=ConsistencyLevel.LOCAL_QUORUM)
        )
    assert second.healthy()
    third.start()
    cassandra_cluster.wait()
