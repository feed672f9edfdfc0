"""Cassandra for the suites: one keyspace a session, whose catalog is emptied when a test's first handle opens.

A test finds rows through the catalog, or by names of its own, so what earlier tests have left is not seen. (Making a
keyspace takes two seconds, truncating its tables as long.)
"""

from pathlib import Path
from typing import Any

from contract_servers import Cassandra
from contract_urls import opened, url_of

from headrace.sinks.cassandra.target import Target, parse_target

KEYSPACE = "contract"
_emptied_for: list[Path] = []


def netloc(server: Cassandra) -> str:
    return f"{server.host}:{server.port}"


def target(server: Cassandra, keyspace: str = KEYSPACE, **options: str) -> Target:
    return parse_target(url_of("cassandra", netloc(server), keyspace, **options))


def open_backend(part: str, server: Cassandra, folder: Path) -> Any:
    """Open the index or the policy store; folder: the test's own, by which its first handle is known."""
    found = opened(part, url_of("cassandra", netloc(server), KEYSPACE), create=not _emptied_for)
    if folder not in _emptied_for:
        _emptied_for.append(folder)
        found._keyspace.session.execute("DELETE FROM tasks WHERE one = 0")
        found._keyspace.session.execute("DELETE FROM meta WHERE name = 'layout' IF EXISTS")
    return found
