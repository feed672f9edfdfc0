"""ingest: transitions in; chunks, windows, decisions, rejected messages and the commit out. One dataflow.

    log ─► split ─► check ─► fold ─► store

An item is one partition's micro-batch. `store` writes folds to the index and commits them a little later, when the
writes have landed while the next rows were decoded. The commit is the only recovery point; see `core.window` for what
it holds.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow

from headrace.pipelines.core.tasks import TaskTable
from headrace.pipelines.core.window import Folded, PartitionFold, open_partition
from headrace.pipelines.runtime.flow import CallSink, PollSource
from headrace.pipelines.runtime.retry import retrying
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.service.ingest_meters import Began, IngestMeters
from headrace.pipelines.topics import REJECTED, TRANSITIONS, WINDOWS
from headrace.schemas.chunk import ChunkRow
from headrace.schemas.codec import Checked, Rejection, check
from headrace.schemas.errors import CommitConflictError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import (
    Assigned,
    Cache,
    Commit,
    EndOfLog,
    Event,
    Headers,
    Index,
    Log,
    MessageBatch,
    Record,
    Revoked,
)
from headrace.schemas.records import Layout
from headrace.sinks.cached_index import CachedChunks

logger = logging.getLogger(__name__)

GROUP = "ingest"
FOLD_INTERVAL_S = 1.0
TELL_INTERVAL_S = 0.25
"""The same, where a window has closed since."""
COMMIT_INTERVAL_S = 0.2
"""How long folds at segments' ends wait for one commit: a transaction costs as much as decoding 3,000 messages."""
COMMIT_FOLDS = 8
"""So many are committed at once at most."""
REJECTED_BYTES = 16 << 20
"""Rejected values held back for a partition's next fold; more bring it on."""
KEPT_BYTES = 65_536
"""What of a rejected message's value is kept; the rest is read at its source offset."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Messages of one partition that lie in one segment, and what they hold."""

    messages: MessageBatch
    checked: Checked


@dataclass(frozen=True, slots=True)
class Fold:
    """A partition's fold on its way to the index and the log."""

    partition: int
    folded: Folded
    rejected: list[Record]
    began: Began


@dataclass(slots=True)
class Counts:
    """What this process has done since it started."""

    messages: int = 0
    transitions: int = 0
    late: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    windows: int = 0


class Ingest:
    """The steps of the dataflow, and the state of the partitions that this process has."""

    def __init__(
        self,
        log: Log,
        index: Index,
        cache: Cache,
        layout: Layout,
        *,
        poll_messages: int = 4_096,
        until_caught_up: bool = False,
        accept_gap: bool = False,
        from_start: bool = False,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log = log
        self.index = index
        self.chunks = CachedChunks(index, cache)
        self.layout = layout
        self.tasks = TaskTable(log, layout)
        self.tasks.refresh()
        self.counts = Counts()
        self.meters = IngestMeters()
        self.stop = Stop()
        self._poll_messages = poll_messages
        self._until_caught_up = until_caught_up
        self._accept_gap = accept_gap
        self._from_start = from_start
        self._timer = timer
        self._subscription = log.subscribe(GROUP, TRANSITIONS)
        self._partitions: dict[int, PartitionFold] = {}
        self._targets: dict[int, int] = {}
        self._folded_s: dict[int, float] = {}
        self._rejected: dict[int, list[Record]] = {}
        self._windows_partitions = log.topic(WINDOWS).partitions
        self._refused: CommitConflictError | None = None
        self._waiting: list[Fold] = []  # written, maybe not yet durable, not committed
        self._waiting_since_s = 0.0
        self._pressing = False  # whether they are to be committed at the next tick

    def close(self) -> None:
        """Leave the group."""
        self._subscription.close()

    def poll(self) -> list[Event | None]:
        """Return the log's next events, and a tick (None); raises StopIteration when there is no more to do."""
        if self.stop.finished:
            raise StopIteration
        caught_up = self._until_caught_up and self._targets and not self._refused and not self._behind()
        if self.stop.requested or caught_up:
            self.stop.finished = self._pressing = True
            return [None]
        found: list[Event | None] = []
        for event in self._events():
            if isinstance(event, MessageBatch | EndOfLog):
                self.meters.polled(event.partition)
                found.append(event)
                continue
            # What came before the partition left, or was given anew, is read again by whoever has it now.
            found = [item for item in found if item is None or item.partition != event.partition]
            if isinstance(event, Assigned):
                self._open(event)
            else:
                self._close(event.partition)
        self._pressing = not found
        return [*found, None]

    def _events(self) -> list[Event]:
        """Poll. After a commit was refused the log takes away what this member had, or it can't go on."""
        events = retrying(lambda: self._subscription.poll(self._poll_messages, 0.1), self.stop)
        refused, self._refused = self._refused, None
        if refused and not any(isinstance(event, Revoked) for event in events):
            raise refused
        return events

    def catch_up(self) -> None:
        """Aim for the log's present end once more (the embedded run does so at each step)."""
        self.stop = Stop()
        for partition in self._partitions:
            self._targets[partition] = self.log.bounds(TRANSITIONS, partition)[1]

    def _behind(self) -> bool:
        return any(self._partitions[p].next_offset < target for p, target in self._targets.items())

    def _close(self, partition: int) -> None:
        for held in (self._partitions, self._targets, self._folded_s, self._rejected):
            held.pop(partition, None)
        self._drop(partition)
        self.meters.closed(partition)
        where = {"topic": TRANSITIONS, "partition": partition}
        logger.info("partition %(partition)d of %(topic)s was given up", where, extra=where)

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """The commits of the partitions that this process has, by topic and partition; from any thread."""
        return {(TRANSITIONS, p): state.committed for p, state in self._partitions.copy().items()}

    def _drop(self, partition: int) -> None:
        """Forget what waits to be committed of a partition: whoever has it now does it again."""
        self._waiting = [fold for fold in self._waiting if fold.partition != partition]

    def _open(self, event: Assigned) -> None:
        self._drop(event.partition)
        retrying(self.tasks.refresh, self.stop)  # the index may hold windows of tasks that were added meanwhile
        state = retrying(
            lambda: open_partition(
                event.partition,
                self.layout,
                self.tasks.specs,
                self._earlier,
                commit=event.commit,
                begin=event.begin,
                accept_gap=self._accept_gap,
                from_start=self._from_start,
            ),
            self.stop,
        )
        self._partitions[event.partition] = state
        self._targets[event.partition] = event.end
        self._folded_s[event.partition] = self._timer()
        self._rejected[event.partition] = []
        self._subscription.seek(event.partition, state.next_offset)
        self.meters.opened(event.partition, state.committed)
        where = {"topic": TRANSITIONS, "partition": event.partition, "offset": state.committed}
        logger.info("partition %(partition)d of %(topic)s is ours, from %(offset)d on", where, extra=where)

    def _earlier(self, partition: int, task: str, start_ms: int, end_ms: int, group: int | None) -> Iterable[ChunkRow]:
        scan = self.index.scan
        return retrying(lambda: list(scan(task, start_ms, end_ms, partition, group, payload=False)), self.stop)

    def split(self, event: Event | None) -> list[MessageBatch | EndOfLog | None]:
        """Cut messages at the ends of segments, and at the commit while the open segment is rebuilt."""
        if not isinstance(event, MessageBatch):
            return [event] if event is None or isinstance(event, EndOfLog) else []
        state, size = self._partitions[event.partition], self.layout.segment
        first, last = int(event.offsets[0]), int(event.offsets[-1])
        cuts = [*range((first // size + 1) * size, last + 1, size), state.committed]
        places = np.unique(np.searchsorted(event.offsets, cuts)).tolist()
        return [*_cut(event, [place for place in places if 0 < place < len(event)])]

    def check(self, event: MessageBatch | EndOfLog | None) -> list[Piece | EndOfLog | None]:
        """Decode and validate; a task that is not known is looked for once before it is called so."""
        if not isinstance(event, MessageBatch):
            return [event]
        checked = check(event, self.tasks, self.layout)
        if bool(checked.unknown) and retrying(self.tasks.refresh, self.stop):
            checked = check(event, self.tasks, self.layout)
        return [Piece(event, checked)]

    def fold(self, item: Piece | EndOfLog | None) -> list[Fold | None]:
        """Take rows in; fold at a segment's end, each second at the log's end, and at the end of the run."""
        if item is None:
            due = [self._fold(state) for state in self._partitions.values() if state.changed and self._due(state)]
            self._pressing |= bool(due)
            return [*due, None]
        if isinstance(item, EndOfLog):
            return [*self._skip(self._partitions[item.partition], item.offset)]
        state = self._partitions[item.messages.partition]
        folds = self._skip(state, int(item.messages.offsets[0]))
        self._take(state, item)
        if state.next_offset == state.segment_end or _held_bytes(self._rejected[state.partition]) > REJECTED_BYTES:
            folds.append(self._fold(state))
        return [*folds]

    def _skip(self, state: PartitionFold, offset: int) -> list[Fold]:
        """Go on to an offset over those that hold no message (a log's own marks), folding at segments' ends."""
        folds = []
        while state.next_offset < offset:
            state.add((), -1, min(offset, state.limit))
            if state.next_offset == state.segment_end:
                folds.append(self._fold(state))
        return folds

    def _take(self, state: PartitionFold, piece: Piece) -> None:
        messages, checked = piece.messages, piece.checked
        fresh = int(messages.offsets[0]) >= state.committed
        if fresh:
            self._count(state, piece)
            self._rejected[state.partition].extend(
                _rejected_record(messages, rejection)
                for rejection in checked.rejected
                if messages.offsets[rejection.position] >= state.rejected_to
            )
        self.meters.taken(state.partition)
        stream_ms = int(checked.stream_ts.max(initial=-1))
        state.add(checked.batches, stream_ms, int(messages.offsets[-1]) + 1)

    def _count(self, state: PartitionFold, piece: Piece) -> None:
        self.counts.messages += len(piece.messages)
        self.counts.rejected.update(rejection.rule for rejection in piece.checked.rejected)
        for batch in piece.checked.batches:
            window_ms = self.tasks.specs[batch.task].window_ms
            ends_ms = batch.ts // window_ms * window_ms + window_ms
            self.counts.transitions += len(batch)
            self.meters.transitions[batch.task] += len(batch)
            self.counts.late += int((ends_ms + self.layout.grace_ms <= state.stream_ms).sum())

    def _due(self, state: PartitionFold) -> bool:
        if self.stop.finished:
            return True
        interval_s = TELL_INTERVAL_S if state.has_closed() else FOLD_INTERVAL_S
        if self._timer() - self._folded_s[state.partition] < interval_s:
            return False
        self._folded_s[state.partition] = self._timer()
        return retrying(lambda: self.log.bounds(TRANSITIONS, state.partition), self.stop)[1] <= state.segment_end

    def _fold(self, state: PartitionFold) -> Fold:
        rejected, self._rejected[state.partition] = self._rejected[state.partition], []
        began = self.meters.folded(state.partition)
        return Fold(state.partition, state.fold(), rejected, began)

    def store(self, items: list[Fold | None]) -> list[None]:
        """Write folds, and commit those before them where that is due; None is a tick."""
        for fold in items:
            if self._refused:
                break  # the partitions are another member's, or read again after the next poll
            if self._waiting and self._commit_due(fold):
                self._commit()
            if fold and not self._refused:
                self._write(fold)
        return []

    def _commit_due(self, fold: Fold | None) -> bool:
        waited_s = self._timer() - self._waiting_since_s
        if fold:  # the writes of those before it had the time that it took to make it
            held_bytes = sum(map(_held_bytes, (waiting.rejected for waiting in self._waiting)))
            return waited_s >= COMMIT_INTERVAL_S or len(self._waiting) >= COMMIT_FOLDS or held_bytes >= REJECTED_BYTES
        return self._pressing or waited_s >= FOLD_INTERVAL_S

    def _write(self, fold: Fold) -> None:
        """Begin to write chunks, windows and sampled decisions."""
        if not self._waiting:
            self._waiting_since_s = self._timer()
        retrying(lambda: self.index.put(fold.folded.chunks, fold.folded.windows), self.stop)
        if fold.folded.decisions:
            retrying(lambda: self.index.decisions.put(fold.folded.decisions), self.stop)
        self._waiting.append(fold)

    def _commit(self) -> None:
        """Wait for the index, then send what is told and rejected and move the commits, all or nothing."""
        retrying(self.index.flush, self.stop)
        folds, self._waiting = self._waiting, []
        self.chunks.remember([row for fold in folds for row in fold.folded.chunks])
        outputs = [record for fold in folds for record in (*fold.rejected, *self._told(fold.folded))]
        commits: dict[int, Commit] = {fold.partition: fold.folded.commit for fold in folds}
        try:
            retrying(lambda: self._subscription.commit(commits, outputs), self.stop)
        except CommitConflictError as error:  # whoever has the partitions now does this again
            logger.warning("%s", error)
            self._refused, self.stop.finished = error, self.stop.requested
            return
        for partition, commit in commits.items():
            self._partitions[partition].confirm(commit)
        for fold in folds:
            self.meters.committed(fold.partition, fold.folded.commit, fold.folded.chunks, fold.began)
        self.counts.chunks += sum(len(fold.folded.chunks) for fold in folds)
        self.counts.windows += sum(len(fold.folded.windows) for fold in folds)
        offsets = {p: c.offset for p, c in commits.items()}
        logger.debug("committed %s", offsets, extra={"offsets": offsets})

    def _told(self, folded: Folded) -> list[Record]:
        """Return the windows' records: keyed by the whole window key, on their task's partition."""
        records = []
        for row in folded.windows:
            k = row.key
            key = f"{k.task}/{k.partition}/{k.group}/{k.start_ms}".encode()
            partition = partition_of(k.task.encode(), self._windows_partitions)
            records.append(Record(WINDOWS, key, row.summary, partition=partition))
        return records


def _held_bytes(records: Iterable[Record]) -> int:
    return sum(len(record.value or b"") for record in records)


def _cut(batch: MessageBatch, places: list[int]) -> list[MessageBatch]:
    edges = [0, *places, len(batch)]
    return [
        replace(
            batch,
            offsets=batch.offsets[a:b],
            append_ts=batch.append_ts[a:b],
            keys=batch.keys[a:b],
            values=batch.values[a:b],
            headers=batch.headers[a:b],
        )
        for a, b in pairwise(edges)
    ]


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


def dataflow(ingest: Ingest) -> Dataflow:
    """Wire the steps; the item's shape stands after each."""
    flow = Dataflow("ingest")
    step = ingest.stop.guarded
    events = op.input("log", flow, PollSource(ingest.poll, ingest.stop))  # MessageBatch | EndOfLog | None (a tick)
    pieces = op.flat_map("split", events, step(ingest.split))  # ... each within one segment
    checked = op.flat_map("check", pieces, step(ingest.check))  # Piece | EndOfLog | None
    folds = op.flat_map("fold", checked, step(ingest.fold))  # Fold | None (a tick)
    op.output("store", folds, CallSink(step(ingest.store)))
    return flow
