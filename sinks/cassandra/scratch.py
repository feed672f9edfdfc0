"""Remove what a bench has made on Cassandra."""

from headrace.schemas.url import Url
from headrace.sinks.cassandra.keyspace import DRIVER_ERRORS, Keyspace
from headrace.sinks.cassandra.target import parse_target

_DROP_S = 60.0


def drop(url: Url) -> None:
    """Drop the keyspace; a cluster with `auto_snapshot` on keeps its files as a snapshot."""
    keyspace = Keyspace(parse_target(url))
    try:
        keyspace.session.execute(f"DROP KEYSPACE {keyspace.target.keyspace}", timeout=_DROP_S)
    except DRIVER_ERRORS as error:
        raise keyspace.failure(error, "drop") from error
    finally:
        keyspace.close()
