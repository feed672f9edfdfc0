"""What `ingest` measures of itself beside its counts: by the batch, never by the row."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.pipelines.service.histogram import Histogram
from headrace.schemas.chunk import ChunkRow
from headrace.schemas.ports import Commit
from headrace.schemas.records import ChunkKey


class Began(NamedTuple):
    """When a fold's first message was polled and when it was folded, by time.monotonic."""

    polled_s: float
    folded_s: float


@dataclass(slots=True)
class IngestMeters:
    """transitions: accepted, by task. moved_s: when a partition was assigned or its commit moved last.

    batch_s: from the poll of a fold's first message to the end of its commit. write_s: from the fold to that.
    """

    transitions: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    batch_s: Histogram = field(default_factory=Histogram)
    write_s: Histogram = field(default_factory=Histogram)
    moved_s: dict[int, float] = field(default_factory=dict)
    _polled_s: dict[int, float] = field(default_factory=dict)
    _first_s: dict[int, float] = field(default_factory=dict)
    _offsets: dict[int, int] = field(default_factory=dict)
    _dropped: dict[int, tuple[int, Counter[ChunkKey]]] = field(default_factory=dict)

    def opened(self, partition: int, offset: int) -> None:
        """A partition is ours, committed up to the offset."""
        self.closed(partition)
        self.moved_s[partition] = time.monotonic()
        self._offsets[partition] = offset

    def closed(self, partition: int) -> None:
        """A partition is no longer ours."""
        for held in (self.moved_s, self._polled_s, self._first_s, self._offsets, self._dropped):
            held.pop(partition, None)

    def polled(self, partition: int) -> None:
        """Messages of the partition came in."""
        self._polled_s[partition] = time.monotonic()

    def taken(self, partition: int) -> None:
        """Some of them, checked, are in the open segment."""
        self._first_s.setdefault(partition, self._polled_s.get(partition, time.monotonic()))

    def folded(self, partition: int) -> Began:
        """The partition is folded."""
        now_s = time.monotonic()
        return Began(self._first_s.pop(partition, now_s), now_s)

    def committed(self, partition: int, commit: Commit, chunks: Sequence[ChunkRow], began: Began) -> None:
        """A fold is durable and its commit has moved."""
        now_s = time.monotonic()
        self.batch_s.observe(now_s - began.polled_s)
        self.write_s.observe(now_s - began.folded_s)
        if self._offsets.get(partition) != commit.offset:
            self._offsets[partition] = commit.offset
            self.moved_s[partition] = now_s
        self._count_duplicates(partition, chunks)

    def _count_duplicates(self, partition: int, chunks: Sequence[ChunkRow]) -> None:
        """Count what the chunks have dropped since they were last written: a chunk grows until its segment ends."""
        for row in chunks:
            if row.received > row.rows:
                segment, known = self._dropped.get(partition, (-1, Counter()))
                if segment != row.key.segment:
                    known = Counter()
                    self._dropped[partition] = (row.key.segment, known)
                self.duplicates += row.received - row.rows - known[row.key]
                known[row.key] = row.received - row.rows
