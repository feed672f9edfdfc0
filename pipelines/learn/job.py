"""learn: windows in; replay, updates, gated candidates, policies and the checkpoint out. One dataflow.

    windows ─► learn ─► commit

What it does depends on the order of the `windows` messages alone, so a killed learner goes on from its checkpoint to
the same weights. One learner per task; a task's windows lie in one partition.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from bytewax.dataflow import Dataflow

from headrace.pipelines.learn.learner import Learner, Learning, Ports
from headrace.pipelines.learn.roster import Roster
from headrace.pipelines.runtime.flow import wired
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.retry import retried
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import WINDOWS, decoded
from headrace.schemas.errors import CommitConflictError
from headrace.schemas.ports import (
    Assigned,
    Clock,
    Commit,
    EndOfLog,
    Log,
    MessageBatch,
    PolicyStore,
    Record,
)
from headrace.schemas.records import WindowSummary
from headrace.sinks.chunks import CachedChunks

logger = logging.getLogger(__name__)

GROUP = "learn"
UNCOMMITTED_WINDOWS = 10_000
"""Windows read without a checkpoint being due, as those of tasks that are not learned."""


def dataflow(learn: "Learn") -> Dataflow:
    """Wire the steps; `Learn.steps` tells the item's shape after each."""
    return wired("learn", learn.stop, ("windows", learn.poll), learn.steps(), ("commit", learn.commit))


class Learn:
    """The steps of the dataflow, over the learners of the tasks that this process has."""

    def __init__(
        self,
        log: Log,
        chunks: CachedChunks,
        store: PolicyStore,
        tasks: TaskTable,
        clock: Clock,
        learning: Learning,
        *,
        only: Sequence[str] = (),
        from_start: bool = False,
        poll_windows: int = 64,
        until_caught_up: bool = False,
    ) -> None:
        """only: the tasks to learn, () for all. from_start: whether to learn these from the first window held."""
        self.stop = Stop()
        self.chunks = chunks
        stores = retried(chunks, self.stop, "index"), retried(store, self.stop, "policies")
        ports = Ports(retried(log, self.stop), *stores, clock)
        self.roster = Roster(ports, retried(tasks, self.stop), learning, only, from_start=from_start)
        self._until_caught_up = until_caught_up
        self._poll_windows = poll_windows
        self._read = 0
        self._committed: dict[int, Commit] = {}
        self._member = Member(ports.log, group_of(only), WINDOWS, on_assign=self._open, on_revoke=self.roster.close)

    @property
    def learners(self) -> dict[str, Learner]:
        """The learners, by task."""
        return self.roster.learners

    def steps(self) -> list[tuple[str, Callable[[Any], list[Any]]]]:
        """Return what the dataflow does with each item between its source and its sink.

        The source gives MessageBatch | EndOfLog | None (a tick).
        """
        return [("learn", self.learn)]  # None (a tick): all before it is taken in

    def close(self) -> None:
        """Leave the group."""
        self._member.close()

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """How far each partition that this process has is read, by topic and partition; from any thread."""
        return self._member.positions

    def catch_up(self) -> None:
        """Aim for the log's present end once more (the embedded run does so at each step)."""
        self.stop.renew()
        self._member.aim()

    def poll(self) -> list[MessageBatch | EndOfLog | None]:
        """Return the next windows, and a tick (None); raises StopIteration when there is no more to do."""
        if self.stop.finished:
            raise StopIteration
        if self.stop.requested or (self._until_caught_up and self._member.caught_up):
            self.stop.finished = True
            return [None]
        return [*self._member.poll(self._poll_windows, 0.1), None]

    def _open(self, event: Assigned) -> int | None:
        self._committed[event.partition] = event.commit or Commit(event.begin)
        lost, needed = self.roster.open(event.partition, self._committed[event.partition].metadata)
        if lost:
            logger.warning("no checkpoint of %s: learning it again from the first window held", ", ".join(lost))
        if needed is None or needed >= self._committed[event.partition].offset:
            return None
        return max(needed, event.begin)

    def learn(self, item: MessageBatch | EndOfLog | None) -> list[None]:
        """Take windows in, one by one: updates and candidates fall due between any two of them."""
        if item is None:
            return [None]
        if self.stop.requested:
            return []  # what is not taken in now is read again by the next run
        if isinstance(item, EndOfLog):
            self._member.advance(item.partition, item.offset)
            return []
        summaries = decoded(item, WindowSummary)
        for summary, offset, append_ms in zip(summaries, item.offsets.tolist(), item.append_ts.tolist(), strict=True):
            self.stop.liveness.seen()
            if self.stop.requested:
                return []
            learner = self.roster.learner(summary.task, item.partition) if summary else None
            if learner and summary and offset >= learner.progress.next_offset:
                learner.meters.emitted(append_ms)
                learner.take(summary, offset, append_ms)
            self._member.advance(item.partition, offset + 1)
        self._read += len(item)
        return []

    def commit(self, ticks: list[None]) -> list[None]:
        """Where a learner is due: save all checkpoints, then send what was decided and move the commits to them.

        The metadata says up to where the tasks that have a checkpoint were learned. A learner killed in between reads
        some windows again, skips those that its checkpoint has, and sends what is not on `policies` yet. One that was
        overtaken saves nothing and sends nothing: it joins again, and goes on from the other's checkpoints.
        """
        due = self._read >= UNCOMMITTED_WINDOWS or any(learner.due for learner in self.learners.values())
        if not self._member.offsets or not (due or self.stop.finished):
            return ticks
        try:
            self._save_and_send()
        except CommitConflictError as error:  # whoever has the partitions now goes on from its own checkpoints
            if not self._member.fenced:  # it is the store that refused, and the log knows nothing of it
                logger.warning("%s", error)
                self._member.rejoin()
            self.stop.finished = self.stop.requested
        return ticks

    def _save_and_send(self) -> None:
        outputs: list[Record] = []
        for learner in self.learners.values():
            if learner.progress.pending:
                learner.follow()  # a person may have decided otherwise meanwhile
        self._require_unmoved()
        for learner in self.learners.values():
            learner.save()
            outputs += learner.outputs()
        commits = {p: Commit(offset, self.roster.metadata(p)) for p, offset in self._member.offsets.items()}
        self._member.commit(commits, outputs)
        self._committed.update(commits)
        self._read = 0
        for learner in self.learners.values():
            learner.sent()

    def _require_unmoved(self) -> None:
        """Raise CommitConflictError where another learner has gone on: a checkpoint saved here would undo its own.

        What stands is committed once more: the log takes that only from the one member that has the partitions. (The
        store would refuse a checkpoint that is older than the other's; but one that comes before it would make the
        rightful learner begin anew.)
        """
        standing = {partition: self._committed[partition] for partition in self._member.offsets}
        self._member.commit(standing)


def group_of(only: Sequence[str]) -> str:
    """Return the group of who learns these tasks alone: its commits must not pass over the windows of others."""
    return ".".join([GROUP, *sorted(only)])
