"""How the index and the policy store on Cassandra are opened. The driver is loaded only then, as that is slow."""

from typing import Any, Final

from headrace.schemas.ports import Adapter, Clock
from headrace.schemas.url import Url
from headrace.sinks.cassandra.target import OPTIONS, parse_target


def _open_index(url: Url, _: Clock, create: bool) -> Any:
    from headrace.sinks.cassandra.index import CassandraIndex  # noqa: PLC0415
    from headrace.sinks.cassandra.keyspace import opened  # noqa: PLC0415

    return opened(CassandraIndex, parse_target(url), create=create)


def _open_policies(url: Url, _: Clock, create: bool) -> Any:
    from headrace.sinks.cassandra.keyspace import opened  # noqa: PLC0415
    from headrace.sinks.cassandra.policies import CassandraPolicyStore  # noqa: PLC0415

    return opened(CassandraPolicyStore, parse_target(url), create=create)


INDEX: Final = Adapter(_open_index, OPTIONS, driver="cassandra-driver>=3.30")
POLICIES: Final = Adapter(_open_policies, OPTIONS, driver="cassandra-driver>=3.30")
