"""The first steps of `ingest`: read the log as a member of the group, cut it at segments' ends, check it."""

import logging
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from headrace.pipelines.ingest.items import Opened, Passed, Piece, Polled, Tick
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import INGEST, TRANSITIONS, IngestCommit
from headrace.schemas.codec import check
from headrace.schemas.errors import LogGapError
from headrace.schemas.ports import Assigned, EndOfLog, Index, Log, MessageBatch, Revoked
from headrace.schemas.records import Layout

logger = logging.getLogger(__name__)


class Reading:
    """The source: what comes in of the partitions that are assigned, and that they came or went."""

    def __init__(
        self,
        log: Log,
        index: Index,
        stop: Stop,
        segment: int,
        *,
        poll_messages: int,
        until_caught_up: bool,
        accept_gap: bool,
        from_start: bool,
    ) -> None:
        self.stop = stop
        self._index = index
        self._segment = segment
        self.member = Member(log, INGEST, TRANSITIONS, on_assign=self._assigned, on_revoke=self._revoked)
        self._poll_messages = poll_messages
        self._until_caught_up = until_caught_up
        self._accept_gap = accept_gap
        self._from_start = from_start
        self._moves: list[Opened | Revoked] = []

    def poll(self) -> list[Polled]:
        """Return the log's next messages and ends, and a tick; raises StopIteration when there is no more to do."""
        if self.stop.finished and (self.stop.requested or not self.member.fenced):
            raise StopIteration
        if self.stop.requested or (self._until_caught_up and self.member.caught_up):
            self.stop.finished = True
            return [Tick(commit=True, last=True, commits=self.member.commits.copy())]
        self.stop.finished = False  # where it was: the last commit was refused, so there is more to do
        found = self.member.poll(self._poll_messages, 0.1)
        for item in found:
            self.member.advance(item.partition, item.offset if isinstance(item, EndOfLog) else item.next_offset)
        moves, self._moves = self._moves, []
        return [*moves, *found, Tick(commit=not found, commits=self.member.commits.copy())]

    def _assigned(self, event: Assigned) -> int:
        opened = open_at(*self._start(event), accept_gap=self._accept_gap)
        self._moves.append(opened)
        return opened.segment

    def _start(self, event: Assigned) -> tuple[Assigned, bool]:
        """Return where the log begins, and whether it is read from there.

        Where retention has cut a segment, the index holds all of it, and its rest would be counted twice.
        """
        cut = event.begin % self._segment
        if not self._from_start or not cut or event.commit is None or not self._holds(event.partition):
            return event, self._from_start
        begin = event.begin - cut + self._segment
        logger.warning(
            "partition %d: the log begins at %d, within a segment; what the index holds of that stays, and the log is "
            "read again from %d on",
            event.partition,
            event.begin,
            min(begin, event.commit.offset),
        )
        return (event, False) if begin > event.commit.offset else (replace(event, begin=begin), True)

    def _holds(self, partition: int) -> bool:
        return next(self._index.scan(partition=partition, payload=False), None) is not None

    def _revoked(self, partition: int) -> None:
        self._moves.append(Revoked(partition))


def open_at(event: Assigned, from_start: bool = False, *, accept_gap: bool = False) -> Opened:
    """Return where an assigned partition goes on: at its commit.

    from_start: at the first offset that the log still holds, whatever was committed. Raises LogGapError if rows are
    gone that were never indexed, unless accept_gap.
    """
    place = None if event.commit is None else IngestCommit.of(event.commit)
    rejected_to = event.begin if event.commit is None or place is None else max(event.commit.offset, place.rejected_to)
    if event.commit is None or place is None or from_start:
        checked_to = max(rejected_to, event.end if from_start else 0)
        return Opened(event.partition, event.begin, event.begin, rejected_to=rejected_to, checked_to=checked_to)
    begin, committed = event.begin, event.commit.offset
    if begin > committed and not accept_gap:
        raise LogGapError(
            f"partition {event.partition}: offsets {committed} to {begin - 1} were never indexed and are gone from the "
            "log (retention). Give --accept-gap to go on without them."
        )
    # Where retention took rows of the open segment, a segment of its own starts at what is left.
    segment = place.segment if begin <= place.segment else max(committed, begin)
    places = (segment, max(committed, segment), place.stream_ms, rejected_to)
    # A reading from the start may have been cut off: then rejected_to lies beyond the commit.
    return Opened(event.partition, *places, checked_to=rejected_to, resumed=True)


@dataclass(slots=True)
class Checking:
    """Cuts messages at segments' ends, decodes and validates them."""

    tasks: TaskTable
    layout: Layout
    _commits: dict[int, int] = field(default_factory=dict)
    _polled_s: float = 0.0

    def split(self, item: Polled) -> list[Polled]:
        """Cut messages at the ends of segments, and at the commit while the open segment is rebuilt."""
        if isinstance(item, Opened):
            self._commits[item.partition] = item.committed
        if not isinstance(item, MessageBatch):
            return [item]
        self._polled_s = time.monotonic()  # all of a poll is cut before any of it is decoded
        size, first, last = self.layout.segment, int(item.offsets[0]), int(item.offsets[-1])
        cuts = [*range((first // size + 1) * size, last + 1, size), self._commits[item.partition]]
        places = np.unique(np.searchsorted(item.offsets, cuts)).tolist()
        edges = [0, *(place for place in places if 0 < place < len(item)), len(item)]
        return [_slice(item, a, b) for a, b in pairwise(edges)]

    def check(self, item: Polled) -> list[Piece | EndOfLog | Passed]:
        """Decode and validate; a task that is not known is looked for once before it is called so."""
        if not isinstance(item, MessageBatch):
            return [item]
        checked = check(item, self.tasks, self.layout)
        if checked.unknown and self.tasks.refresh():
            checked = check(item, self.tasks, self.layout)
        return [Piece(item, checked, self._polled_s)]


def _slice(batch: MessageBatch, a: int, b: int) -> MessageBatch:
    columns = ("offsets", "append_ts", "keys", "values", "headers")
    return replace(batch, **{name: getattr(batch, name)[a:b] for name in columns})
