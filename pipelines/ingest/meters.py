"""What `ingest` has done and measured since it started: by the batch, never by the row."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.pipelines.service.histogram import Histogram
from headrace.schemas.chunk import ChunkRow
from headrace.schemas.records import ChunkKey


@dataclass(slots=True)
class IngestCounts:
    """What this process has done since it started."""

    messages: int = 0
    transitions: int = 0
    late: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    windows: int = 0
    repaired: int = 0


@dataclass(slots=True)
class IngestMeters:
    """counts: in all. transitions: accepted, by task. moved_s: when a partition was assigned or its commit moved last.

    batch_s: from the poll of a fold's first message to the end of its commit. write_s: from the fold to that.
    """

    counts: IngestCounts = field(default_factory=IngestCounts)
    transitions: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    batch_s: Histogram = field(default_factory=Histogram)
    write_s: Histogram = field(default_factory=Histogram)
    moved_s: dict[int, float] = field(default_factory=dict)
    _dropped: dict[int, tuple[int, Counter[ChunkKey]]] = field(default_factory=dict)

    def moved(self, partition: int) -> None:
        """A partition was assigned, or its commit moved."""
        self.moved_s[partition] = time.monotonic()

    def closed(self, partition: int) -> None:
        """A partition is no longer ours."""
        self.moved_s.pop(partition, None)
        self._dropped.pop(partition, None)

    def committed(self, partition: int, chunks: Sequence[ChunkRow], polled_s: float, folded_s: float) -> None:
        """A fold of messages since `polled_s` is durable, and committed."""
        now_s = time.monotonic()
        self.batch_s.observe(now_s - polled_s)
        self.write_s.observe(now_s - folded_s)
        for row in chunks:
            if row.received > row.rows:
                self._count_duplicates(partition, row)

    def _count_duplicates(self, partition: int, row: ChunkRow) -> None:
        """Count what the chunk has dropped since it was last written: it grows until its segment ends."""
        segment, known = self._dropped.get(partition, (-1, Counter()))
        if segment != row.key.segment:
            known = Counter()
            self._dropped[partition] = (row.key.segment, known)
        self.duplicates += row.received - row.rows - known[row.key]
        known[row.key] = row.received - row.rows
