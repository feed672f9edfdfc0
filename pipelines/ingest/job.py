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
from typing import Any

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow

from headrace.pipelines.ingest.meters import Began, IngestMeters
from headrace.pipelines.ingest.window import Folded, PartitionFold, open_partition
from headrace.pipelines.runtime.flow import CallSink, PollSource
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.retry import retried, retrying
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import REJECTED, TRANSITIONS, WINDOWS
from headrace.schemas.checker import Checked, Rejection
from headrace.schemas.chunk import ChunkRow
from headrace.schemas.codec import check
from headrace.schemas.errors import CommitConflictError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import (
    Assigned,
    Cache,
    Commit,
    EndOfLog,
    Headers,
    Index,
    Log,
    MessageBatch,
    Record,
)
from headrace.schemas.records import Layout
from headrace.sinks.chunks import CachedChunks

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
class Tick:
    """The end of a poll. commit: whether what was folded before it is to be committed now, as at the log's end."""

    commit: bool


Polled = MessageBatch | EndOfLog | Tick


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


def dataflow(ingest: "Ingest") -> Dataflow:
    """Wire the steps; `Ingest.steps` tells the item's shape after each."""
    flow = Dataflow("ingest")
    items = op.input("log", flow, PollSource(ingest.poll, ingest.stop))  # MessageBatch | EndOfLog | Tick
    for name, step in ingest.steps():
        items = op.flat_map(name, items, ingest.stop.guarded(step))
    op.output("store", items, CallSink(ingest.stop.guarded(ingest.store)))
    return flow


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
        self.stop = Stop()
        self._log = retried(log, self.stop)
        self.index = index
        self._index = retried(index, self.stop)
        self.chunks = CachedChunks(index, cache)
        self.layout = layout
        self.tasks = TaskTable(log, layout)
        self.tasks.refresh()
        self.counts = Counts()
        self.meters = IngestMeters()
        self._poll_messages = poll_messages
        self._until_caught_up = until_caught_up
        self._accept_gap = accept_gap
        self._from_start = from_start
        self._timer = timer
        self._partitions: dict[int, PartitionFold] = {}
        self._folded_s: dict[int, float] = {}
        self._rejected: dict[int, list[Record]] = {}
        self._windows_partitions = log.topic(WINDOWS).partitions
        self._waiting: list[Fold] = []  # written, maybe not yet durable, not committed
        self._waiting_since_s = 0.0
        self._member = Member(self._log, GROUP, TRANSITIONS, on_assign=self._open, on_revoke=self._close)

    def steps(self) -> list[tuple[str, Callable[[Any], list[Any]]]]:
        """Return what the dataflow does with each item between its source and its sink."""
        return [
            ("split", self.split),  # MessageBatch, each within one segment | EndOfLog | Tick
            ("check", self.check),  # Piece | EndOfLog | Tick
            ("fold", self.fold),  # Fold | Tick
        ]

    def close(self) -> None:
        """Leave the group."""
        self._member.close()

    def poll(self) -> list[Polled]:
        """Return the log's next messages and ends, and a tick; raises StopIteration when there is no more to do."""
        if self.stop.finished:
            raise StopIteration
        if self.stop.requested or (self._until_caught_up and self._member.caught_up):
            self.stop.finished = True
            return [Tick(commit=True)]
        found = self._member.poll(self._poll_messages, 0.1)
        for item in found:
            self.meters.polled(item.partition)
        return [*found, Tick(commit=not found)]

    def catch_up(self) -> None:
        """Aim for the log's present end once more (the embedded run does so at each step)."""
        self.stop.renew()
        self._member.aim()

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """The commits of the partitions that this process has, by topic and partition; from any thread."""
        return {(TRANSITIONS, p): state.committed for p, state in self._partitions.copy().items()}

    def _open(self, event: Assigned) -> int:
        retrying(self.tasks.refresh, self.stop)  # the index may hold windows of tasks that were added meanwhile
        state = open_partition(
            event.partition,
            self.layout,
            self.tasks.specs,
            self._earlier,
            commit=event.commit,
            begin=event.begin,
            accept_gap=self._accept_gap,
            from_start=self._from_start,
        )
        self._partitions[event.partition] = state
        self._folded_s[event.partition] = self._timer()
        self._rejected[event.partition] = []
        self.meters.opened(event.partition, state.committed)
        return state.next_offset

    def _close(self, partition: int) -> None:
        for held in (self._partitions, self._folded_s, self._rejected):
            held.pop(partition, None)
        self._waiting = [fold for fold in self._waiting if fold.partition != partition]
        self.meters.closed(partition)

    def _earlier(self, partition: int, task: str, start_ms: int, end_ms: int, group: int | None) -> Iterable[ChunkRow]:
        return self._index.scan(task, start_ms, end_ms, partition, group, payload=False)

    def split(self, event: Polled) -> list[Polled]:
        """Cut messages at the ends of segments, and at the commit while the open segment is rebuilt."""
        if not isinstance(event, MessageBatch):
            return [event]
        state, size = self._partitions[event.partition], self.layout.segment
        first, last = int(event.offsets[0]), int(event.offsets[-1])
        cuts = [*range((first // size + 1) * size, last + 1, size), state.committed]
        places = np.unique(np.searchsorted(event.offsets, cuts)).tolist()
        return [*_cut(event, [place for place in places if 0 < place < len(event)])]

    def check(self, event: Polled) -> list[Piece | EndOfLog | Tick]:
        """Decode and validate; a task that is not known is looked for once before it is called so."""
        if not isinstance(event, MessageBatch):
            return [event]
        checked = check(event, self.tasks, self.layout)
        if bool(checked.unknown) and retrying(self.tasks.refresh, self.stop):
            checked = check(event, self.tasks, self.layout)
        return [Piece(event, checked)]

    def fold(self, item: Piece | EndOfLog | Tick) -> list[Fold | Tick]:
        """Take rows in; fold at a segment's end, each second at the log's end, and at the end of the run."""
        if isinstance(item, Tick):
            due = [self._fold(state) for state in self._partitions.values() if state.changed and self._due(state)]
            return [*due, Tick(commit=item.commit or bool(due))]
        if isinstance(item, EndOfLog):
            state = self._partitions[item.partition]
            folds = self._skip(state, item.offset)
        else:
            state = self._partitions[item.messages.partition]
            folds = self._skip(state, int(item.messages.offsets[0]))
            self._take(state, item)
            if state.next_offset == state.segment_end or _held_bytes(self._rejected[state.partition]) > REJECTED_BYTES:
                folds.append(self._fold(state))
        self._member.advance(state.partition, state.next_offset)
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
        return self._log.bounds(TRANSITIONS, state.partition)[1] <= state.segment_end

    def _fold(self, state: PartitionFold) -> Fold:
        rejected, self._rejected[state.partition] = self._rejected[state.partition], []
        began = self.meters.folded(state.partition)
        return Fold(state.partition, state.fold(), rejected, began)

    def store(self, items: list[Fold | Tick]) -> list[None]:
        """Write folds, and commit those before them where that is due."""
        for item in items:
            if self._member.fenced:
                break  # the partitions are another member's, or read again after the next poll
            if self._waiting and self._commit_due(item):
                self._commit()
            if isinstance(item, Fold) and not self._member.fenced:
                self._write(item)
        return []

    def _commit_due(self, item: Fold | Tick) -> bool:
        waited_s = self._timer() - self._waiting_since_s
        if isinstance(item, Tick):
            return item.commit or waited_s >= FOLD_INTERVAL_S
        # The writes of those before it had the time that it took to make it.
        held_bytes = sum(map(_held_bytes, (waiting.rejected for waiting in self._waiting)))
        return waited_s >= COMMIT_INTERVAL_S or len(self._waiting) >= COMMIT_FOLDS or held_bytes >= REJECTED_BYTES

    def _write(self, fold: Fold) -> None:
        """Begin to write chunks, windows and sampled decisions."""
        if not self._waiting:
            self._waiting_since_s = self._timer()
        self._index.put(fold.folded.chunks, fold.folded.windows)
        if fold.folded.decisions:
            self._index.decisions.put(fold.folded.decisions)
        self._waiting.append(fold)

    def _commit(self) -> None:
        """Wait for the index, then send what is told and rejected and move the commits, all or nothing."""
        self._index.flush()
        folds, self._waiting = self._waiting, []
        self.chunks.remember([row for fold in folds for row in fold.folded.chunks])
        outputs = [record for fold in folds for record in (*fold.rejected, *self._told(fold.folded))]
        commits: dict[int, Commit] = {fold.partition: fold.folded.commit for fold in folds}
        try:
            self._member.commit(commits, outputs)
        except CommitConflictError:
            self.stop.finished = self.stop.requested  # there is more to do, unless somebody wishes to stop
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
