"""The step of `ingest` that holds partitions: rows go in, and now and then a fold comes out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from headrace.pipelines.ingest.items import Fold, Opened, Passed, Piece, Tick
from headrace.pipelines.ingest.meters import IngestMeters
from headrace.pipelines.ingest.partition import PartitionFold, open_partition
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import KEPT_BYTES, REJECTED, TRANSITIONS
from headrace.schemas.checker import Rejection
from headrace.schemas.chunk import ChunkRow
from headrace.schemas.ports import EndOfLog, Headers, Index, Log, MessageBatch, Record, Revoked
from headrace.schemas.records import Layout

FOLD_INTERVAL_S = 1.0
EMIT_INTERVAL_S = 0.25
"""The same, where a window has closed since."""
REJECTED_BYTES = 16 << 20
"""Rejected values held back for a partition's next fold; more bring it on."""


@dataclass(slots=True)
class Folding:
    """The partitions that are assigned, by the items so far. A fold is due at a segment's end, or by time."""

    log: Log
    index: Index
    tasks: TaskTable
    layout: Layout
    meters: IngestMeters
    timer: Callable[[], float]
    partitions: dict[int, PartitionFold] = field(default_factory=dict)

    def fold(self, item: Piece | EndOfLog | Passed) -> list[Fold | Passed]:
        """Take rows in; fold at a segment's end, each second at the log's end, and at the end of the run."""
        match item:
            case Piece():
                return [*self._take(item)]
            case EndOfLog():
                return [*self._skip(self.partitions[item.partition], item.offset)]
            case Tick():
                return self._tick(item)
            case Opened():
                self._open(item)
            case Revoked():
                del self.partitions[item.partition]
        return [item]

    def _open(self, opened: Opened) -> None:
        self.tasks.refresh()  # the index may hold windows of tasks that were added meanwhile
        state = open_partition(opened, self.layout, self.tasks.specs, self._earlier)
        state.folded_s = self.timer()
        self.partitions[opened.partition] = state

    def _earlier(self, partition: int, task: str, start_ms: int, end_ms: int, group: int | None) -> Iterable[ChunkRow]:
        return self.index.scan(task, start_ms, end_ms, partition, group, payload=False)

    def _tick(self, tick: Tick) -> list[Fold | Passed]:
        for partition, commit in tick.commits.items():
            if commit.offset != self.partitions[partition].committed:
                self.partitions[partition].confirm(commit)
        states = self.partitions.values()
        due = [state.fold() for state in states if state.changed and (tick.last or self._due(state))]
        return [*due, Tick(tick.commit or bool(due), tick.last)]

    def _due(self, state: PartitionFold) -> bool:
        interval_s = EMIT_INTERVAL_S if state.has_closed() else FOLD_INTERVAL_S
        if self.timer() - state.folded_s < interval_s:
            return False
        state.folded_s = self.timer()
        return self.log.bounds(TRANSITIONS, state.partition)[1] <= state.segment_end

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
            folds.append(state.fold())
        return folds

    def _skip(self, state: PartitionFold, offset: int) -> list[Fold]:
        """Go on to an offset over those that hold no message (a log's own marks), folding at segments' ends."""
        folds = []
        while state.next_offset < offset:
            state.add((), -1, min(offset, state.limit))
            if state.next_offset == state.segment_end:
                folds.append(state.fold())
        return folds

    def _count(self, state: PartitionFold, piece: Piece) -> None:
        self.meters.counts.messages += len(piece.messages)
        self.meters.counts.rejected.update(rejection.rule for rejection in piece.checked.rejected)
        for batch in piece.checked.batches:
            window_ms = self.tasks.specs[batch.task].window_ms
            ends_ms = batch.ts // window_ms * window_ms + window_ms
            self.meters.counts.transitions += len(batch)
            self.meters.transitions[batch.task] += len(batch)
            self.meters.counts.late += int((ends_ms + self.layout.grace_ms <= state.windows.stream_ms).sum())


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
