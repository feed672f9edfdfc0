"""A partition's open segment and open windows: what `ingest` holds between two commits, and nothing else does.

All of it is rebuilt from the log's commit: the open segment by reading its rows again, the open windows from the
index's stats of earlier segments. Folding at other times writes and tells the same in the end.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.pipelines.ingest.sample import sample
from headrace.pipelines.ingest.segment import Part, encode_parts, group_rows
from headrace.schemas.chunk import ChunkRow, ChunkStats, agent_stats, decode_stats, fold_stats, total_stats
from headrace.schemas.decisions import DecisionBatch
from headrace.schemas.errors import LogGapError
from headrace.schemas.ports import Commit
from headrace.schemas.records import (
    ChunkKey,
    ChunkSummary,
    Layout,
    TaskSpec,
    WindowKey,
    WindowRow,
    WindowSummary,
)
from headrace.schemas.transition import TransitionBatch, concat

MAX_AGENTS_TOLD = 1_000
"""Above it a window's summary has totals only."""

Earlier = Callable[[int, str, int, int, int | None], Iterable[ChunkRow]]
"""(partition, task, start_ms, end_ms, group) -> chunk rows of the index without payload, in key order."""

_ever_ms = 1 << 62


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """The commit's metadata: B, the first offset of the open segment, and T, the stream time at the commit.

    rejected_to: the messages before this offset that were rejected are in the quarantine: told where it is beyond the
    commit, as that was moved back, to read the log again from its start.
    """

    segment: int
    stream_ms: int
    rejected_to: int = 0


@dataclass(frozen=True, slots=True)
class WindowFold:
    """A window's chunks so far, in (segment, part) order, and the fold of their stats."""

    received: int = 0
    stats: ChunkStats | None = None
    chunks: tuple[ChunkSummary, ...] = ()

    def grow(self, rows: Sequence[ChunkRow], stats: Sequence[ChunkStats]) -> "WindowFold":
        """Return the fold with more parts."""
        if not rows:
            return self
        return WindowFold(
            self.received + sum(row.received for row in rows),
            fold_stats([self.stats, *stats] if self.stats else stats),
            (*self.chunks, *(row.summary for row in rows)),
        )


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold wants written (chunks, windows, decisions), told (the windows) and committed."""

    chunks: list[ChunkRow]
    windows: list[WindowRow]
    commit: Commit
    decisions: list[DecisionBatch]


@dataclass(slots=True)
class PartitionFold:
    """Segments, chunks and windows of one partition, from its commit on.

    A caller adds checked rows in log order, never beyond `limit`, and folds when it likes, but always at
    `segment_end`.
    """

    partition: int
    layout: Layout
    specs: Mapping[str, TaskSpec]
    earlier: Earlier
    segment: int
    next_offset: int
    committed: int
    stream_ms: int
    rejected_to: int = 0
    # A window that is not in _before and closes after the horizon has no chunks in earlier segments.
    _horizon_ms: int = -1
    _rows: dict[str, list[TransitionBatch]] = field(default_factory=dict)
    _parts: dict[ChunkKey, Part] = field(default_factory=dict)
    # Parts of segments that are folded but not committed yet: the index need not show them.
    _uncommitted: dict[WindowKey, list[Part]] = field(default_factory=dict)
    _uncommitted_from: int | None = None
    _before: dict[WindowKey, WindowFold] = field(default_factory=dict)
    _untold: set[WindowKey] = field(default_factory=set)
    _folded_offset: int = -1
    _folded_ms: int = -1

    @property
    def segment_end(self) -> int:
        """The offset at which the open segment ends; segments are aligned."""
        return (self.segment // self.layout.segment + 1) * self.layout.segment

    @property
    def limit(self) -> int:
        """The offset up to which rows may be added now."""
        return self.committed if self.next_offset < self.committed else self.segment_end

    @property
    def changed(self) -> bool:
        """Whether the log was read further than the last fold or commit."""
        return self.next_offset > max(self.committed, self._folded_offset)

    def has_closed(self) -> bool:
        """Whether stream time has passed the end of a window, and its grace, since the last fold."""
        before_ms, now_ms = (at_ms - self.layout.grace_ms for at_ms in (self._folded_ms, self.stream_ms))
        return any(before_ms // spec.window_ms < now_ms // spec.window_ms for spec in self.specs.values())

    def add(self, batches: Iterable[TransitionBatch], stream_ms: int, next_offset: int) -> None:
        """Take in the checked rows of messages up to `next_offset`; stream_ms: their greatest stream time."""
        assert self.next_offset <= next_offset <= self.limit
        for batch in batches:
            self._rows.setdefault(batch.task, []).append(batch)
        rebuilt = self.next_offset < self.committed == next_offset
        self.next_offset = next_offset
        self.stream_ms = max(self.stream_ms, stream_ms)
        if rebuilt:
            self._finish_rebuilding()

    def load(self) -> None:
        """Load the windows that are open at the commit; call once before rows are added."""
        self._horizon_ms = self.stream_ms
        for task, spec in self.specs.items():
            first_ms = max(0, self.stream_ms - self.layout.grace_ms - spec.window_ms + 1)
            for row in self.earlier(self.partition, task, first_ms, _ever_ms, None):
                if row.key.segment < self.segment and not self._closed(row.key.window):
                    fold = self._before.get(row.key.window, WindowFold())
                    self._before[row.key.window] = fold.grow([row], [decode_stats(row.stats, row.key)])
        self._untold.update(self._before)

    def fold(self) -> Folded:
        """Encode the chunks that have grown, tell the closed windows that have untold rows, and say where we are."""
        grown = self._encode()
        decisions = self._sample()
        self._untold.update(part.row.key.window for part in grown)
        told = sorted(key for key in self._untold if self._closed(key))
        self._untold.difference_update(told)
        windows = [self._tell(key) for key in told]
        if self.next_offset == self.segment_end:
            self._close_segment()
        self._folded_offset, self._folded_ms = self.next_offset, self.stream_ms
        self.rejected_to = max(self.rejected_to, self.next_offset)
        beyond = self.rejected_to if self.rejected_to > self.next_offset else 0
        place = msgspec.json.encode(Place(self.segment, self.stream_ms, beyond)).decode()
        return Folded([part.row for part in grown], windows, Commit(self.next_offset, place), decisions)

    def confirm(self, commit: Commit) -> None:
        """Note that a fold's rows are durable and its commit has moved."""
        self.committed = commit.offset
        if self._uncommitted_from is None:
            return
        durable_end = _place(commit).segment
        self._uncommitted_from = durable_end if durable_end < self.segment else None
        waiting = {
            key: [part for part in parts if part.row.key.segment >= durable_end]
            for key, parts in self._uncommitted.items()
        }
        self._uncommitted = {key: parts for key, parts in waiting.items() if parts}

    def _finish_rebuilding(self) -> None:
        """What lies before the commit is written, and told where its window had closed."""
        for part in self._encode():
            if not self._closed(part.row.key.window):
                self._untold.add(part.row.key.window)

    def _encode(self) -> list[Part]:
        grown: list[Part] = []
        received = {key: part.row.received for key, part in self._parts.items()}
        for task, pieces in self._rows.items():
            rows = _in_log_order(concat(pieces))
            self._rows[task] = [rows]
            spec = self.specs[task]
            grown.extend(encode_parts(group_rows(rows, spec, self.partition, self.segment), spec, received))
        self._parts.update((part.row.key, part) for part in grown)
        return grown

    def _sample(self) -> list[DecisionBatch]:
        """Sample the rows since the last fold or commit."""
        since = max(self.committed, self._folded_offset)
        found = []
        for task, (rows,) in self._rows.items():  # joined, in log order
            fresh = rows.slice(int(np.searchsorted(rows.offset, since)), len(rows))
            found.append(sample(fresh, self.specs[task], self.partition, self.layout.sample_every))
        return [batch for batch in found if batch is not None]

    def _closed(self, key: WindowKey) -> bool:
        return key.start_ms + self.specs[key.task].window_ms + self.layout.grace_ms <= self.stream_ms

    def _window(self, key: WindowKey) -> WindowFold:
        """Fold a window's chunks: of earlier segments from memory or the index, then the open segment's own."""
        fold = self._before.get(key)
        if fold is None:
            fold = WindowFold()
            if key.start_ms + self.specs[key.task].window_ms + self.layout.grace_ms <= self._horizon_ms:
                fold = self._earlier_fold(key)
        own = [self._parts[k] for k in self._own(key)]
        return fold.grow([part.row for part in own], [part.stats for part in own])

    def _earlier_fold(self, key: WindowKey) -> WindowFold:
        """Fold a window's chunks of earlier segments: the committed ones from the index, the others from memory."""
        waiting = self._uncommitted.get(key, [])
        durable_end = self.segment if self._uncommitted_from is None else self._uncommitted_from
        rows = self.earlier(self.partition, key.task, key.start_ms, key.start_ms + 1, key.group)
        durable = [row for row in rows if row.key.segment < durable_end]
        fold = WindowFold().grow(durable, [decode_stats(row.stats, row.key) for row in durable])
        return fold.grow([part.row for part in waiting], [part.stats for part in waiting])

    def _own(self, key: WindowKey) -> list[ChunkKey]:
        """Return the window's parts in the open segment, in order."""
        out: list[ChunkKey] = []
        place = (key.task, key.group, key.start_ms, key.partition, self.segment)
        while (chunk := ChunkKey(*place, len(out))) in self._parts:
            out.append(chunk)
        return out

    def _tell(self, key: WindowKey) -> WindowRow:
        fold = self._window(key)
        assert fold.stats is not None
        totals = total_stats(fold.stats)
        summary = WindowSummary(
            task=key.task,
            group=key.group,
            partition=key.partition,
            start_ms=key.start_ms,
            end_ms=key.start_ms + self.specs[key.task].window_ms,
            rows=totals.rows,
            duplicates=fold.received - totals.rows,
            totals=totals,
            agents=agent_stats(fold.stats) if len(fold.stats.agents) <= MAX_AGENTS_TOLD else [],
            chunks=list(fold.chunks),
        )
        return WindowRow(key, key.start_ms * 1000 + fold.received, msgspec.json.encode(summary))

    def _close_segment(self) -> None:
        self._before = {key: self._window(key) for key in self._untold}
        for key in sorted(self._parts):
            part = self._parts[key]
            light = Part(replace(part.row, payload=b""), part.stats)
            self._uncommitted.setdefault(key.window, []).append(light)
        if self._uncommitted_from is None:
            self._uncommitted_from = self.segment
        self._rows.clear()
        self._parts.clear()
        self.segment = self.next_offset
        self._horizon_ms = self.stream_ms


def open_partition(
    partition: int,
    layout: Layout,
    specs: Mapping[str, TaskSpec],
    earlier: Earlier,
    *,
    commit: Commit | None,
    begin: int,
    accept_gap: bool = False,
    from_start: bool = False,
) -> PartitionFold:
    """Return the state of a partition at its commit; the caller reads on from its `next_offset`.

    begin: the first offset that the log still holds. from_start: whether it is read from there, whatever was committed.
    Raises LogGapError if rows are gone that were never indexed, unless accept_gap.
    """
    rejected_to = max(commit.offset, _place(commit).rejected_to) if commit else begin
    commit = None if from_start else commit
    committed = commit.offset if commit else begin
    place = _place(commit) if commit else Place(begin, -1)
    if begin > committed and not accept_gap:
        raise LogGapError(
            f"partition {partition}: offsets {committed} to {begin - 1} were never indexed and are gone from the log "
            "(retention). Give --accept-gap to go on without them."
        )
    # Where retention took rows of the open segment, a segment of its own starts at what is left.
    segment = place.segment if begin <= place.segment else max(committed, begin)
    committed = max(committed, segment)
    fold = PartitionFold(partition, layout, specs, earlier, segment, segment, committed, place.stream_ms, rejected_to)
    if commit:
        fold.load()
    return fold


def _place(commit: Commit) -> Place:
    return msgspec.json.decode(commit.metadata, type=Place)


def _in_log_order(rows: TransitionBatch) -> TransitionBatch:
    """Sort by offset: a batch of mixed content types comes in one piece per type."""
    offsets: NDArray[np.int64] = rows.offset
    if (offsets[1:] >= offsets[:-1]).all():
        return rows
    return rows.take(np.argsort(offsets, kind="stable"))
