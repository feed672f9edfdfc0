"""Cassandra for the suites: one keyspace a session, whose catalog is emptied when a test's first handle opens.

A test finds rows through the catalog, or by names of its own, so what earlier tests have left is not seen. (Making a
keyspace takes two seconds, truncating its tables as long.)
"""

from pathlib import Path

from contract_servers import Cassandra

from headrace.sinks.cassandra import Keyspace
from headrace.sinks.cassandra_target import Target, parse_target
from headrace.sinks.index_cassandra import CassandraIndex
from headrace.sinks.policies_cassandra import CassandraPolicyStore

KEYSPACE = "contract"
_emptied_for: list[Path] = []


def netloc(server: Cassandra) -> str:
    return f"{server.host}:{server.port}"


def target(server: Cassandra, keyspace: str = KEYSPACE, **options: str) -> Target:
    return parse_target(netloc(server), f"/{keyspace}", options)


def open_keyspace(server: Cassandra, folder: Path) -> Keyspace:
    """Open the suites' keyspace; folder: the test's own, by which its first handle is known."""
    keyspace = Keyspace(target(server), create=not _emptied_for)
    if folder not in _emptied_for:
        _emptied_for.append(folder)
        keyspace.session.execute("DELETE FROM tasks WHERE one = 0")
        keyspace.session.execute("DELETE FROM meta WHERE name = 'layout' IF EXISTS")
    return keyspace


def open_index(server: Cassandra, folder: Path) -> CassandraIndex:
    return CassandraIndex(open_keyspace(server, folder))


def open_store(server: Cassandra, folder: Path) -> CassandraPolicyStore:
    return CassandraPolicyStore(open_keyspace(server, folder))
