"""The step of `ingest` that holds partitions: rows go in, and now and then a fold comes out."""

import time
from collections.abc import Callable, Iterable

from headrace.pipelines.ingest.items import Fold, Opened, Passed, Piece, Tick
from headrace.pipelines.ingest.meters import Counts, IngestMeters
from headrace.pipelines.ingest.partition import PartitionFold, open_partition
from headrace.pipelines.runtime.retry import retrying
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import KEPT_BYTES, REJECTED, TRANSITIONS
from headrace.schemas.checker import Rejection
from headrace.schemas.chunk import ChunkRow
from headrace.schemas.ports import EndOfLog, Headers, Index, Log, MessageBatch, Record
from headrace.schemas.records import Layout

FOLD_INTERVAL_S = 1.0
TELL_INTERVAL_S = 0.25
"""The same, where a window has closed since."""
REJECTED_BYTES = 16 << 20
"""Rejected values held back for a partition's next fold; more bring it on."""


class Folding:
    """The partitions that are assigned, by the items so far. A fold is due at a segment's end, or by time."""

    def __init__(
        self,
        log: Log,
        index: Index,
        tasks: TaskTable,
        layout: Layout,
        *,
        stop: Stop,
        counts: Counts,
        meters: IngestMeters,
        timer: Callable[[], float],
    ) -> None:
        self.partitions: dict[int, PartitionFold] = {}
        self._log = log
        self._index = index
        self._tasks = tasks
        self._layout = layout
        self._stop = stop
        self._counts = counts
        self._meters = meters
        self._timer = timer

    def fold(self, item: Piece | EndOfLog | Passed) -> list[Fold | Passed]:
        """Take rows in; fold at a segment's end, each second at the log's end, and at the end of the run."""
        if isinstance(item, Piece):
            return [*self._take(item)]
        if isinstance(item, EndOfLog):
            return [*self._skip(self.partitions[item.partition], item.offset)]
        if isinstance(item, Tick):
            return self._tick(item)
        if isinstance(item, Opened):
            self._open(item)
        else:
            del self.partitions[item.partition]
        return [item]

    def _open(self, opened: Opened) -> None:
        retrying(self._tasks.refresh, self._stop)  # the index may hold windows of tasks that were added meanwhile
        state = open_partition(opened, self._layout, self._tasks.specs, self._earlier)
        state.folded_s = self._timer()
        self.partitions[opened.partition] = state

    def _earlier(self, partition: int, task: str, start_ms: int, end_ms: int, group: int | None) -> Iterable[ChunkRow]:
        return self._index.scan(task, start_ms, end_ms, partition, group, payload=False)

    def _tick(self, tick: Tick) -> list[Fold | Passed]:
        for partition, commit in tick.commits.items():
            if commit.offset != self.partitions[partition].committed:
                self.partitions[partition].confirm(commit)
        states = self.partitions.values()
        due = [self._fold(state) for state in states if state.changed and (tick.last or self._due(state))]
        return [*due, Tick(tick.commit or bool(due), tick.last)]

    def _due(self, state: PartitionFold) -> bool:
        interval_s = TELL_INTERVAL_S if state.has_closed() else FOLD_INTERVAL_S
        if self._timer() - state.folded_s < interval_s:
            return False
        state.folded_s = self._timer()
        return self._log.bounds(TRANSITIONS, state.partition)[1] <= state.segment_end

    def _take(self, piece: Piece) -> list[Fold]:
        messages, checked = piece.messages, piece.checked
        state = self.partitions[messages.partition]
        folds = self._skip(state, int(messages.offsets[0]))
        if int(messages.offsets[0]) >= state.committed:
            self._count(state, piece)
            state.rejected += (
                _rejected_record(messages, rejection)
                for rejection in checked.rejected
                if messages.offsets[rejection.position] >= state.rejected_to
            )
        state.polled_s = state.polled_s or piece.polled_s
        state.add(checked.batches, int(checked.stream_ts.max(initial=-1)), messages.next_offset)
        if state.next_offset == state.segment_end or held_bytes(state.rejected) > REJECTED_BYTES:
            folds.append(self._fold(state))
        return folds

    def _skip(self, state: PartitionFold, offset: int) -> list[Fold]:
        """Go on to an offset over those that hold no message (a log's own marks), folding at segments' ends."""
        folds = []
        while state.next_offset < offset:
            state.add((), -1, min(offset, state.limit))
            if state.next_offset == state.segment_end:
                folds.append(self._fold(state))
        return folds

    def _count(self, state: PartitionFold, piece: Piece) -> None:
        self._counts.messages += len(piece.messages)
        self._counts.rejected.update(rejection.rule for rejection in piece.checked.rejected)
        for batch in piece.checked.batches:
            window_ms = self._tasks.specs[batch.task].window_ms
            ends_ms = batch.ts // window_ms * window_ms + window_ms
            self._counts.transitions += len(batch)
            self._meters.transitions[batch.task] += len(batch)
            self._counts.late += int((ends_ms + self._layout.grace_ms <= state.windows.stream_ms).sum())

    @staticmethod
    def _fold(state: PartitionFold) -> Fold:
        now_s = time.monotonic()
        rejected, state.rejected = state.rejected, []
        polled_s, state.polled_s = state.polled_s or now_s, None
        return Fold(state.partition, state.fold(), rejected, polled_s, now_s)


def held_bytes(records: Iterable[Record]) -> int:
    """Return how large the records' values are."""
    return sum(len(record.value or b"") for record in records)


def _rejected_record(messages: MessageBatch, rejection: Rejection) -> Record:
    """Return the quarantine's record: the original bytes, and why and whence in the headers."""
    i = rejection.position
    value = messages.values[i]
    headers: Headers = (
        ("rule", rejection.rule.encode()),
        ("reason", rejection.reason.encode("utf-8", "backslashreplace")),
        ("topic", messages.topic.encode()),
        ("partition", str(messages.partition).encode()),
        ("offset", str(int(messages.offsets[i])).encode()),
        *((name, content) for name, content in messages.headers[i] if name in {"content-type", "replayed"}),
    )
    return Record(REJECTED, messages.keys[i], value[:KEPT_BYTES] if value else value, headers)
