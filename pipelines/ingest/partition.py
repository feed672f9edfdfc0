"""A partition's state between two commits: its open segment and open windows. Nothing else of `ingest` holds any.

All of it is rebuilt from the log's commit: the open segment by reading its rows again, the open windows from the
index's stats of earlier segments.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from headrace.pipelines.ingest.items import Fold, Opened
from headrace.pipelines.ingest.segment import OpenSegment
from headrace.pipelines.ingest.window import Earlier, OpenWindows
from headrace.pipelines.topics import IngestCommit
from headrace.schemas.ports import Commit, Record
from headrace.schemas.records import Layout, TaskSpec
from headrace.schemas.transition import TransitionBatch


@dataclass(slots=True)
class PartitionFold:
    """Segments, chunks and windows of one partition, from its commit on.

    A caller adds checked rows in log order, never beyond `limit`, and folds when it likes, but always at
    `segment_end`. rejected: what waits for the next fold.
    """

    partition: int
    layout: Layout
    segment: OpenSegment
    windows: OpenWindows
    next_offset: int
    committed: int
    rejected_to: int
    checked_to: int
    rejected: list[Record] = field(default_factory=list)
    polled_s: float | None = None  # when the first message since the last fold came in
    folded_s: float = 0.0
    _folded_offset: int = -1
    _folded_ms: int = -1

    @property
    def segment_end(self) -> int:
        """The offset at which the open segment ends; segments are aligned."""
        return (self.segment.start // self.layout.segment + 1) * self.layout.segment

    @property
    def limit(self) -> int:
        """The offset up to which rows may be added now."""
        return self.committed if self.next_offset < self.committed else self.segment_end

    @property
    def changed(self) -> bool:
        """Whether the log was read further than the last fold or commit."""
        return self.next_offset > self._done

    @property
    def _done(self) -> int:
        return max(self.committed, self._folded_offset)

    def has_closed(self) -> bool:
        """Whether a window has closed since the last fold."""
        return self.windows.has_closed_since(self._folded_ms)

    def add(self, batches: Iterable[TransitionBatch], stream_ms: int, next_offset: int) -> None:
        """Take in the checked rows of messages up to `next_offset`; stream_ms: their greatest stream time."""
        assert self.next_offset <= next_offset <= self.limit
        self.segment.add(batches)
        rebuilt = self.next_offset < self.committed == next_offset
        self.next_offset = next_offset
        self.windows.stream_ms = max(self.windows.stream_ms, stream_ms)
        if rebuilt:
            self.windows.rebuilt(self.segment.encode())

    def fold(self) -> Fold:
        """Encode the chunks that have grown, emit the closed windows that have pending rows, and say where we are."""
        grown, again = self.segment.encode(), self.segment.start < self.checked_to
        decisions = self.segment.sample(self._done, self.layout.sample_every)
        windows = self.windows.emit(grown)
        late = [row for row in windows if again or self.windows.closed_by(row.key, self._folded_ms)]
        if whole := self.next_offset == self.segment_end:
            self.windows.close_segment()
            self.segment.begin(self.next_offset)
        self._folded_offset, self._folded_ms = self.next_offset, self.windows.stream_ms
        self.rejected_to = max(self.rejected_to, self.next_offset)
        beyond = self.rejected_to if self.rejected_to > self.next_offset else 0
        place = IngestCommit(self.segment.start, self.windows.stream_ms, beyond)
        commit = Commit(self.next_offset, msgspec.json.encode(place).decode())
        rejected, self.rejected = self.rejected, []
        now_s = time.monotonic()
        polled_s, self.polled_s = self.polled_s or now_s, None
        chunks = [part.row for part in grown]
        return Fold(self.partition, chunks, windows, decisions, rejected, commit, polled_s, now_s, again, whole, late)

    def confirm(self, commit: Commit) -> None:
        """Note that a fold's rows are durable and its commit has moved."""
        self.committed = commit.offset
        self.windows.confirm(IngestCommit.of(commit).segment)


def open_partition(opened: Opened, layout: Layout, specs: Mapping[str, TaskSpec], earlier: Earlier) -> PartitionFold:
    """Return the state of a partition at its commit; the caller reads on from its `next_offset`."""
    segment = OpenSegment(opened.partition, opened.segment, specs)
    cut = opened.segment > 0 and not opened.resumed
    windows = OpenWindows(specs, layout.grace_ms, segment, earlier, opened.stream_ms, cut)
    if opened.resumed:
        windows.load()
    places = (opened.segment, opened.committed, opened.rejected_to, opened.checked_to)
    return PartitionFold(opened.partition, layout, segment, windows, *places, _folded_ms=opened.stream_ms)
