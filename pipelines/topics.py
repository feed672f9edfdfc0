"""The log's topics: their names, and reading one from its beginning to its end."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Final, TypeVar

import msgspec
import numpy as np

from headrace.schemas.errors import CorruptDataError
from headrace.schemas.ports import Commit, Headers, Log, MessageBatch

logger = logging.getLogger(__name__)

TASKS: Final = "tasks"
TRANSITIONS: Final = "transitions"
REJECTED: Final = "transitions.rejected"
WINDOWS: Final = "windows"
POLICIES: Final = "policies"
REPORTS: Final = "reports"
DIRECTIVES: Final = "directives"
MAILS: Final = "mails"
RATINGS: Final = "ratings"
OPERATIONS: Final = "operations"
SUBSCRIBERS: Final = "subscribers"

SINGLE: Final = (TASKS, MAILS, RATINGS, OPERATIONS, SUBSCRIBERS)
"""Topics of one partition: all of each is read by everyone."""
YOUNGER: Final = (OPERATIONS, SUBSCRIBERS)
"""Topics that a log lacks which an older headrace made: the jobs do without."""
PARTITIONED: Final = (TRANSITIONS, REJECTED, WINDOWS, POLICIES, REPORTS, DIRECTIVES)
"""Topics with as many partitions as `headrace init` was told."""

INGEST: Final = "ingest"
"""The group whose commits say how far `ingest` has come."""
KEPT_BYTES: Final = 65_536
"""What the quarantine keeps of a rejected message's value; the rest is read at its source offset."""
READ_MESSAGES: Final = 500

Kind = TypeVar("Kind", bound=msgspec.Struct)


class IngestCommit(msgspec.Struct, frozen=True, omit_defaults=True):
    """The metadata of a commit of `ingest`: B, the first offset of the open segment, and T, the stream time there.

    rejected_to: the messages before this offset that were rejected are in the quarantine: told where it is beyond the
    commit, as that was moved back, to read the log again from its start.
    """

    segment: int
    stream_ms: int
    rejected_to: int = 0

    @classmethod
    def of(cls, commit: Commit) -> "IngestCommit":
        """Return what a commit says."""
        return msgspec.json.decode(commit.metadata, type=cls)


@dataclass(slots=True)
class TopicReader:
    """Reads a topic on: each `batches` begins where the last one ended, and goes to the end that the log has then.

    key: only the messages under it. offsets: by partition, where to go on. An offset moves when the next batch is
    asked for, so that a batch whose taking in has failed is read again.
    """

    log: Log
    topic: str
    key: str | None = None
    offsets: dict[int, int] = field(default_factory=dict)

    def batches(self) -> Iterator[MessageBatch]:
        """Read the partitions one after another, each to the end that it has when its turn comes.

        A key's messages come in the order of their append times, wherever they lie: a topic that has got more
        partitions has older ones in another.
        """
        partitions = range(self.log.topic(self.topic).partitions)
        if self.key is None:
            for partition in partitions:
                yield from self.partition(partition)
        else:
            yield from self._under(self.key.encode(), partitions)

    def partition(self, partition: int) -> Iterator[MessageBatch]:
        """Read one partition on."""
        for batch in partition_messages(self.log, self.topic, partition, self.offsets.get(partition, 0)):
            yield batch
            self.offsets[partition] = batch.next_offset

    def _under(self, key: bytes, partitions: Iterable[int]) -> Iterator[MessageBatch]:
        """Read a key's messages of all partitions on."""
        ends: dict[int, int] = {}
        found: list[tuple[int, MessageBatch]] = []
        for partition in partitions:
            latest_ts = -1  # a clock that was set back does not change a partition's own order
            for batch in partition_messages(self.log, self.topic, partition, self.offsets.get(partition, 0)):
                ends[partition] = batch.next_offset
                for row in (row for row, own in enumerate(batch.keys) if own == key):
                    latest_ts = max(latest_ts, int(batch.append_ts[row]))
                    found.append((latest_ts, batch.take([row])))
        for _, message in sorted(found, key=itemgetter(0)):
            yield message
            self.offsets[message.partition] = message.next_offset
        self.offsets.update(ends)


def messages(log: Log, topic: str, key: str | None = None) -> Iterator[MessageBatch]:
    """Read a topic from its beginning to its end, or what it holds under a key."""
    return TopicReader(log, topic, key).batches()


def partition_messages(
    log: Log, topic: str, partition: int, offset: int = 0, end: int | None = None
) -> Iterator[MessageBatch]:
    """Read a partition from an offset to another; without one to the end that it has now."""
    begin, last = log.bounds(topic, partition)
    offset, end = max(offset, begin), last if end is None else end
    while offset < end:
        batch = log.read(topic, partition, offset, min(READ_MESSAGES, end - offset))
        # Offsets may have gaps: fewer messages than offsets lie before the end.
        count = int(np.searchsorted(batch.offsets, end))
        if count < len(batch):
            batch = batch.take(range(count))
        if not count:
            return  # nothing but marks of transactions, or one that is open
        yield batch
        offset = batch.next_offset


@cache
def _decoder(kind: type[Kind]) -> msgspec.json.Decoder[Kind]:
    return msgspec.json.Decoder(kind)


def decoded(batch: MessageBatch, kind: type[Kind], *, strict: bool = False) -> Iterator[Kind | None]:
    """Yield a record for each message: None for a tombstone and, with a warning, for what is no such record.

    strict: raise CorruptDataError for that instead. A decision of people that can't be read must not be passed over.
    """
    decode = _decoder(kind).decode
    for value, offset in zip(batch.values, batch.offsets.tolist(), strict=True):
        try:
            yield decode(value) if value else None
        except msgspec.MsgspecError as error:
            what = f"topic {batch.topic}, partition {batch.partition}: offset {offset} is no {kind.__name__}"
            if strict:
                raise CorruptDataError(f"{what} that this headrace can read: {error}") from error
            logger.warning("%s and is passed over: %s", what, error)
            yield None


def records(batches: Iterable[MessageBatch], kind: type[Kind], *, strict: bool = False) -> Iterator[Kind]:
    """Yield the batches' records; what is none is passed over, or refused as by `decoded`."""
    return (record for batch in batches for record in decoded(batch, kind, strict=strict) if record is not None)


def newest(log: Log, topic: str, kind: type[Kind], *, strict: bool = False) -> dict[str, Kind]:
    """Return the newest record under each key that the log holds; a tombstone takes its key's away.

    Of messages in two partitions (where the topic has got more of them) the one that was appended later is the newest.
    """
    found: dict[str, tuple[int, int, Kind | None]] = {}
    for batch in messages(log, topic):
        times = batch.append_ts.tolist()
        for key, value, ts, record in zip(
            batch.keys, batch.values, times, decoded(batch, kind, strict=strict), strict=True
        ):
            name = (key or b"").decode("utf-8", "replace")
            partition, known_ts, _ = found.get(name, (batch.partition, ts, None))
            if (record is not None or not value) and (partition == batch.partition or ts > known_ts):
                found[name] = batch.partition, ts, record
    return {name: record for name, (_, _, record) in found.items() if record is not None}


def header(headers: Headers, name: str) -> str | None:
    """Return a header's text, None where it is absent."""
    return next((value.decode("utf-8", "replace") for key, value in headers if key == name), None)
