"""The log's topics: their names, and reading one from its beginning to its end."""

from collections.abc import Iterator
from typing import Final

from headrace.schemas.partition import partition_of
from headrace.schemas.ports import Headers, Log, MessageBatch

TASKS: Final = "tasks"
TRANSITIONS: Final = "transitions"
REJECTED: Final = "transitions.rejected"
WINDOWS: Final = "windows"
POLICIES: Final = "policies"
REPORTS: Final = "reports"
DIRECTIVES: Final = "directives"
MAILS: Final = "mails"

SINGLE: Final = (TASKS, MAILS)
"""Topics of one partition: all of each is read by everyone."""
PARTITIONED: Final = (TRANSITIONS, REJECTED, WINDOWS, POLICIES, REPORTS, DIRECTIVES)
"""Topics with as many partitions as `headrace init` was told."""

_READ_MESSAGES = 500


def messages(log: Log, topic: str) -> Iterator[MessageBatch]:
    """Read a topic's partitions one after another, each to the end that it has when its turn comes."""
    for partition in range(log.topic(topic).partitions):
        yield from partition_messages(log, topic, partition)


def partition_messages(log: Log, topic: str, partition: int, offset: int = 0) -> Iterator[MessageBatch]:
    """Read a partition from an offset to the end that it has now."""
    begin, end = log.bounds(topic, partition)
    offset = max(offset, begin)
    while offset < end:
        batch = log.read(topic, partition, offset, _READ_MESSAGES)
        if not len(batch):
            break
        yield batch
        offset = int(batch.offsets[-1]) + 1


def of_key(log: Log, topic: str, key: str, offset: int = 0) -> Iterator[tuple[list[bytes | None], int]]:
    """Read what a topic holds under a key, from an offset of its partition on.

    Yields values, and the offset from which to go on once they are dealt with.
    """
    name = key.encode()
    for batch in partition_messages(log, topic, partition_of(name, log.topic(topic).partitions), offset):
        values = [value for own, value in zip(batch.keys, batch.values, strict=True) if own == name]
        yield values, int(batch.offsets[-1]) + 1


def header(headers: Headers, name: str) -> str | None:
    """Return a header's text, None where it is absent."""
    return next((value.decode("utf-8", "replace") for key, value in headers if key == name), None)
