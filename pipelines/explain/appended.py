"""What lies on a topic, by append time: rejected messages, what the jobs said, what came to serve."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from headrace.pipelines.topics import TopicReader
from headrace.schemas.errors import UnknownTopicError
from headrace.schemas.ports import Log, MessageBatch

Key = TypeVar("Key")


@dataclass(slots=True)
class _Bucket(Generic[Key]):
    """What was appended to a partition at one time; first: the first one's offset."""

    first: int
    counts: Counter[Key] = field(default_factory=Counter)


class Appended(Generic[Key]):
    """Counts a topic's messages by append time and by what they are.

    key: of each message of a batch, None for one that is passed over. Read outside the group, by every process in full:
    a member of the group would see its own partitions only. What is held in memory lies between `forget` and `advance`:
    an interval or two of the log's time.
    """

    def __init__(self, log: Log, topic: str, key: Callable[[MessageBatch], Iterable[Key | None]]) -> None:
        self._log = log
        self._topic = topic
        self._key = key
        self._reader = TopicReader(log, topic)
        self._reached_ms: dict[int, int] = {}
        self._buckets: dict[tuple[int, int], _Bucket[Key]] = {}  # by partition and append time

    def begin(self, offsets: dict[int, int]) -> None:
        """Read from these offsets on, by partition; from the log's begin in one that is not named."""
        self._reached_ms, self._buckets = {}, {}
        self._reader.offsets = dict(offsets)

    def advance(self, until_ms: int) -> None:
        """Read until the append time, or to the log's present end; a topic that is not there is empty."""
        try:
            partitions = self._log.topic(self._topic).partitions
        except UnknownTopicError:
            return
        for partition in range(partitions):
            if self._reached_ms.get(partition, until_ms) > until_ms:
                continue
            for batch in self._reader.partition(partition):
                if self._reached_ms.get(partition, until_ms) > until_ms:
                    break
                self._take(batch)

    def _take(self, batch: MessageBatch) -> None:
        for key, offset, ts in zip(self._key(batch), batch.offsets.tolist(), batch.append_ts.tolist(), strict=True):
            self._reached_ms[batch.partition] = ts
            if key is not None:
                self._buckets.setdefault((batch.partition, ts), _Bucket(offset)).counts[key] += 1

    def counts(self, after_ms: int, until_ms: int) -> Counter[Key]:
        """Return what was appended after one time and until another; of a partition's, in order."""
        found = Counter[Key]()
        for (_, append_ms), bucket in self._buckets.items():
            if after_ms < append_ms <= until_ms:
                found.update(bucket.counts)
        return found

    def forget(self, until_ms: int) -> Counter[Key]:
        """Let go of what was appended until the time, and return it."""
        found = self.counts(-1, until_ms)
        for place in [place for place in self._buckets if place[1] <= until_ms]:
            del self._buckets[place]
        return found

    def offsets(self, after_ms: int | None) -> dict[int, int]:
        """Return, by partition, from where all can be counted again that was appended after the time."""
        first = dict(self._reader.offsets)
        for (partition, append_ms), bucket in self._buckets.items():
            if after_ms is not None and append_ms > after_ms:
                first[partition] = min(bucket.first, first.get(partition, bucket.first))
        return first
