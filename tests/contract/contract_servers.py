"""The servers that tests start for themselves; the shared ones are fixtures of `local_servers.fixtures`."""

from local_servers import Cassandra, Kafka, Redis, temporary

__all__ = ["Cassandra", "Kafka", "Redis", "temporary"]
