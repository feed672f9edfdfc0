"""The intervals of the partitions of `windows` that a process has: when one is over, and what was rejected in it.

The commit on `windows` stays before the intervals that are open or still compared with, so that a restart reads them
again. Its metadata says from where `transitions.rejected` must be read again.
"""

from collections.abc import Callable, Iterator

from headrace.learners.explain.interval import RejectedCounts
from headrace.learners.explain.timeline import IngestProgress, Timeline
from headrace.pipelines.explain.items import Source, Trigger
from headrace.pipelines.explain.reported import KnownReports, Operations, Rejections, ingest_progress
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import WINDOWS, decoded
from headrace.schemas.ports import Assigned, Commit, EndOfLog, Log, MessageBatch
from headrace.schemas.records import WindowSummary

ASK_INTERVAL_S = 1.0
"""How often `ingest` is asked how far it has come while an interval looks over."""


def read_on(member: Member, limit: int, timeout_s: float) -> Iterator[MessageBatch]:
    """Yield the next messages, each taken in when the next is asked for."""
    for item in member.poll(limit, timeout_s):
        if isinstance(item, EndOfLog):
            member.advance(item.partition, item.offset)
        else:
            yield item
            member.advance(item.partition, item.next_offset)


class Intervals:
    """Follows `windows`. interval_ms: an interval's length, in event time: see `Timeline`."""

    def __init__(
        self,
        log: Log,
        group: str,
        tasks: TaskTable,
        known: KnownReports,
        *,
        interval_ms: int,
        until_caught_up: bool,
        timer: Callable[[], float],
    ) -> None:
        self.member = Member(log, group, WINDOWS, on_assign=self._assign)
        self._tasks = tasks
        self._known = known
        self._interval_ms = interval_ms
        self._until_caught_up = until_caught_up
        self._timer = timer
        self._timelines: dict[int, Timeline] = {}
        self._rejections, self._operations = Rejections(log), Operations(log)
        self._asked: IngestProgress | None = None
        self._asked_s = -ASK_INTERVAL_S
        self._asked_at_end = False

    @property
    def through(self) -> bool:
        """Whether a run until the log's end has nothing more to close."""
        return self._until_caught_up and self._asked_at_end and self.member.caught_up

    def aim(self) -> None:
        """Go on to the log's present end."""
        self._asked, self._asked_at_end = None, False
        self.member.aim()

    def poll(self, limit: int, *, at_end: bool) -> list[Trigger]:
        """Read on; return the intervals that are over. at_end: whether the other topics are read to their ends."""
        for batch in read_on(self.member, limit, 0.1):
            self._fold(batch)
        found = list(self._over(at_end=at_end and self.member.caught_up))
        if found and self.member.caught_up:  # while it is, what one partition has told of, another may need
            pending = [self._timelines[partition].pending_ms() for partition in self.member.offsets]
            needless_ms = min((ms for ms in pending if ms is not None), default=0)
            self._rejections.forget(needless_ms)
            self._operations.forget(needless_ms)
        return found

    def _assign(self, event: Assigned) -> None:
        self._known.refresh()  # who had the partition may have reported since this one began
        self._timelines[event.partition] = Timeline(self._interval_ms, self._known.closing)
        self._asked_at_end = False
        if event.commit or event.begin < event.end:
            self._rejections.hold(event.commit.metadata if event.commit else "")
            self._operations.begin()

    def _fold(self, batch: MessageBatch) -> None:
        timeline = self._timelines[batch.partition]
        summaries = decoded(batch, WindowSummary)
        for summary, offset, append_ms in zip(summaries, batch.offsets.tolist(), batch.append_ts.tolist(), strict=True):
            spec = self._tasks.spec(summary.task) if summary else None
            if spec and summary:
                timeline.add(spec, summary, offset, append_ms)

    def _over(self, *, at_end: bool) -> Iterator[Trigger]:
        """Close the intervals that ingest was past, as soon as all that it had emitted then is read."""
        if self._asked is None and self._may_ask(at_end=at_end):
            self._asked = ingest_progress(self.member.log, self._tasks.layout.grace_ms)
            if self._until_caught_up:
                self.member.aim(self._asked.windows_end)
        if self._asked is None or not self.member.reached(self._asked.windows_end):
            return
        progress, self._asked = self._asked, None
        for partition in self.member.offsets:
            yield from self._closed(partition, progress)

    def _may_ask(self, *, at_end: bool) -> bool:
        """Whether an interval looks over: at the end of a run once, else each second."""
        timelines = [self._timelines[partition] for partition in self.member.offsets]
        if self._until_caught_up:
            asks = at_end and not self._asked_at_end
            self._asked_at_end |= asks
            return asks and any(timeline.looks_over(to_the_end=True) for timeline in timelines)
        now_s = self._timer()
        asks = now_s - self._asked_s >= ASK_INTERVAL_S and any(timeline.looks_over() for timeline in timelines)
        self._asked_s = now_s if asks else self._asked_s
        return asks

    def _closed(self, partition: int, progress: IngestProgress) -> Iterator[Trigger]:
        timeline, offset = self._timelines[partition], self.member.offsets[partition]
        closed = timeline.close(progress, offset)
        if not closed:
            return
        self._rejections.advance(timeline.append_ms)
        self._operations.advance(timeline.append_ms)
        rejected = [RejectedCounts(self._rejections.counts(*one.appended_ms), *one.appended_ms) for one in closed]
        ran = [self._operations.facts(one.spec.task, *one.appended_ms) for one in closed]
        hold = timeline.hold()
        commit = Commit(offset if hold is None else hold, self._rejections.metadata(timeline.pending_ms()))
        source = Source(WINDOWS, partition, commit, self.member.generations[partition])
        for one, its_rejected, operations in zip(closed, rejected, ran, strict=True):
            yield Trigger(source, interval=one, rejected=its_rejected, operations=operations)
