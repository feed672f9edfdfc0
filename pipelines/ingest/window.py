"""A partition's open windows: what is not emitted yet, and what of it lies in earlier segments.

Folding at other times writes and emits the same in the end. All of it is rebuilt from the index's stats.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from headrace.pipelines.ingest.segment import OpenSegment, Part
from headrace.schemas.chunk import ChunkRow, ChunkStats, agent_stats, decode_stats, fold_stats, total_stats
from headrace.schemas.records import ChunkSummary, TaskSpec, WindowKey, WindowRow, WindowSummary

MAX_AGENTS_TOLD = 1_000
"""Above it a window's summary has totals only."""

Earlier = Callable[[int, str, int, int, int | None], Iterable[ChunkRow]]
"""(partition, task, start_ms, end_ms, group) -> chunk rows of the index without payload, in key order."""

_EVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class WindowFold:
    """A window's chunks so far, in (segment, part) order, and the fold of their stats."""

    received: int = 0
    stats: ChunkStats | None = None
    chunks: tuple[ChunkSummary, ...] = ()

    def grow(self, parts: Sequence[Part]) -> "WindowFold":
        """Return the fold with more parts."""
        if not parts:
            return self
        stats = [part.stats for part in parts]
        return WindowFold(
            self.received + sum(part.row.received for part in parts),
            fold_stats([self.stats, *stats] if self.stats else stats),
            (*self.chunks, *(part.row.summary for part in parts)),
        )


@dataclass(slots=True)
class OpenWindows:
    """The windows of one partition that have rows not yet emitted. stream_ms: the stream time, which closes them.

    cut: whether the log is read from a beginning before which the index may hold chunks: of each window they are asked
    for then.
    """

    specs: Mapping[str, TaskSpec]
    grace_ms: int
    segment: OpenSegment
    earlier: Earlier
    stream_ms: int
    cut: bool = False
    _pending: set[WindowKey] = field(default_factory=set)
    _before: dict[WindowKey, WindowFold] = field(default_factory=dict)
    # A window that is not in _before and closes after the horizon has no chunks in earlier segments.
    _horizon_ms: int = -1
    # Parts of segments that are folded but not committed yet: the index need not show them.
    _uncommitted: dict[WindowKey, list[Part]] = field(default_factory=dict)
    _uncommitted_from: int | None = None

    def load(self) -> None:
        """Load the windows that are open at the commit; call once before rows are added."""
        self._horizon_ms = self.stream_ms
        for task, spec in self.specs.items():
            first_ms = max(0, self.stream_ms - self.grace_ms - spec.window_ms + 1)
            for row in self.earlier(self.segment.partition, task, first_ms, _EVER_MS, None):
                if row.key.segment < self.segment.start and not self._closed(row.key.window):
                    fold = self._before.get(row.key.window, WindowFold())
                    self._before[row.key.window] = fold.grow([_read(row)])
        self._pending.update(self._before)

    def has_closed_since(self, stream_ms: int) -> bool:
        """Whether stream time has passed the end of a window, and its grace, since it was so."""
        before_ms, now_ms = stream_ms - self.grace_ms, self.stream_ms - self.grace_ms
        return any(before_ms // spec.window_ms < now_ms // spec.window_ms for spec in self.specs.values())

    def rebuilt(self, parts: Iterable[Part]) -> None:
        """Note parts that are written already, and emitted where their window had closed."""
        self._pending.update(part.row.key.window for part in parts if not self._closed(part.row.key.window))

    def emit(self, grown: Iterable[Part]) -> list[WindowRow]:
        """Return the rows of the closed windows that have pending rows, those of the grown parts among them."""
        self._pending.update(part.row.key.window for part in grown)
        emitted = sorted(key for key in self._pending if self._closed(key))
        self._pending.difference_update(emitted)
        return [self._row(key) for key in emitted]

    def close_segment(self) -> None:
        """Keep what will be emitted later of the open segment, which is full."""
        self._before = {key: self._fold(key) for key in self._pending}
        for key in sorted(self.segment.parts):
            part = self.segment.parts[key]
            light = Part(replace(part.row, payload=b""), part.stats)
            self._uncommitted.setdefault(key.window, []).append(light)
        if self._uncommitted_from is None:
            self._uncommitted_from = self.segment.start
        self._horizon_ms = self.stream_ms

    def confirm(self, durable_end: int) -> None:
        """Note that the segments before one are durable in the index."""
        if self._uncommitted_from is None:
            return
        self._uncommitted_from = durable_end if durable_end < self.segment.start else None
        waiting = {
            key: [part for part in parts if part.row.key.segment >= durable_end]
            for key, parts in self._uncommitted.items()
        }
        self._uncommitted = {key: parts for key, parts in waiting.items() if parts}

    def _closes_ms(self, key: WindowKey) -> int:
        return key.start_ms + self.specs[key.task].window_ms + self.grace_ms

    def _closed(self, key: WindowKey) -> bool:
        return self.closed_by(key, self.stream_ms)

    def closed_by(self, key: WindowKey, stream_ms: int) -> bool:
        """Whether the window was closed at a stream time."""
        return self._closes_ms(key) <= stream_ms

    def _fold(self, key: WindowKey) -> WindowFold:
        """Fold a window's chunks: of earlier segments from memory or the index, then the open segment's own."""
        fold = self._before.get(key)
        if fold is None:
            known = self._closes_ms(key) > self._horizon_ms and not self.cut
            fold = WindowFold() if known else self._earlier_fold(key)
        return fold.grow(self.segment.of(key))

    def _earlier_fold(self, key: WindowKey) -> WindowFold:
        """Fold a window's chunks of earlier segments: the committed ones from the index, the others from memory."""
        durable_end = self.segment.start if self._uncommitted_from is None else self._uncommitted_from
        rows = self.earlier(self.segment.partition, key.task, key.start_ms, key.start_ms + 1, key.group)
        durable = [_read(row) for row in rows if row.key.segment < durable_end]
        return WindowFold().grow(durable).grow(self._uncommitted.get(key, []))

    def _row(self, key: WindowKey) -> WindowRow:
        fold = self._fold(key)
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


def _read(row: ChunkRow) -> Part:
    return Part(row, decode_stats(row.stats, row.key))
