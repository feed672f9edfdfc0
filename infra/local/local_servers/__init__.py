"""Real Kafka, Cassandra and Redis on this machine, without Docker.

In a test, take a fixture (the pytest plugin `local_servers.fixtures`: started when the first test asks, all three at
the same time, once a session; also `cassandra_cluster`, three nodes of the test's own)::

    def test_commit(kafka, cassandra, redis):
        log = open_log(kafka.url)

or start servers of one's own, that a test may hurt::

    with temporary() as folder:
        kafka, redis = Kafka(folder / "kafka"), Redis(folder / "redis")
        start(kafka, redis)  # both at once; returns when each answers its protocol
        kafka.kill()  # SIGKILL
        kafka.start()  # the same data, the same port
        redis.pause()  # SIGSTOP; then redis.resume()
        kafka.stop()  # SIGTERM: a clean stop

`temporary()` kills what still runs in its folder and removes it, also when this process is killed with -9.
The session's servers, and `quick = True`, trade the optimising compiler for a quick start; measure without.
`CassandraCluster(folder)` is three nodes on 127.0.0.1, .2 and .3: `.url`, `.nodes[1].kill()`, `.nodes[1].start()`.

By hand: `make up`, `make up NODES=3`, `make status`, `make down`, `make down PURGE=1`. See `local_servers.local`.
"""

from local_servers.cassandra import Cassandra, CassandraCluster
from local_servers.folders import temporary
from local_servers.kafka import Kafka
from local_servers.redis import Redis
from local_servers.server import Server, ServerError, start, stop

__all__ = ["Cassandra", "CassandraCluster", "Kafka", "Redis", "Server", "ServerError", "start", "stop", "temporary"]
