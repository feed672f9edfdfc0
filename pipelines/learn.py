"""learn: windows in; replay, updates, gated candidates, policies and the checkpoint out. One dataflow.

    windows ─► learn ─► commit

What it does depends on the order of the `windows` messages alone, so a killed learner goes on from its checkpoint to
the same weights. One learner per task; a task's windows lie in one partition.
"""

import logging

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow

from headrace.learners.dqn import DQNConfig
from headrace.pipelines.core.tasks import TaskTable
from headrace.pipelines.flow import CallSink, PollSource, Stop, retrying
from headrace.pipelines.learner import Learner, LearnSettings
from headrace.pipelines.topics import WINDOWS
from headrace.schemas.ports import Assigned, Clock, Commit, Log, MessageBatch, PolicyStore, Revoked
from headrace.schemas.records import WindowSummary
from headrace.sinks.cached_index import CachedChunks

logger = logging.getLogger(__name__)

GROUP = "learn"

_decode = msgspec.json.Decoder(WindowSummary).decode


class Learn:
    """The steps of the dataflow, and the learners of the tasks that this process has."""

    def __init__(
        self,
        log: Log,
        chunks: CachedChunks,
        store: PolicyStore,
        tasks: TaskTable,
        clock: Clock,
        *,
        config: DQNConfig | None = None,
        settings: LearnSettings | None = None,
        seed: int = 0,
        poll_windows: int = 64,
        until_caught_up: bool = False,
    ) -> None:
        self.log = log
        self.chunks = chunks
        self.store = store
        self.tasks = tasks
        self.stop = Stop()
        self.learners: dict[str, Learner] = {}
        self._skipped: set[str] = set()
        self._partition: dict[str, int] = {}
        self._clock = clock
        self._config = config or DQNConfig()
        self._settings = settings or LearnSettings()
        self._until_caught_up = until_caught_up
        self._offsets: dict[int, int] = {}
        self._seed = seed
        self._poll_windows = poll_windows
        self._targets: dict[int, int] = {}
        self._subscription = log.subscribe(GROUP, WINDOWS)

    def close(self) -> None:
        """Leave the group."""
        self._subscription.close()

    def catch_up(self) -> None:
        """Aim for the log's present end once more (the embedded run does so at each step)."""
        self.stop = Stop()
        for partition in self._offsets:
            self._targets[partition] = self.log.bounds(WINDOWS, partition)[1]

    def poll(self) -> list[MessageBatch | None]:
        """Return the next windows, and a tick (None); raises StopIteration when there is no more to do."""
        if self.stop.finished:
            raise StopIteration
        caught_up = self._until_caught_up and bool(self._targets) and not self._behind()
        if self.stop.requested or caught_up:
            self.stop.finished = True
            return [None]
        events = retrying(lambda: self._subscription.poll(self._poll_windows, 0.1), self.stop)
        for event in events:
            if isinstance(event, Assigned):
                self._offsets[event.partition] = event.commit.offset if event.commit else event.begin
                self._targets[event.partition] = event.end
            elif isinstance(event, Revoked):
                self._offsets.pop(event.partition, None)
        return [*(event for event in events if isinstance(event, MessageBatch)), None]

    def _behind(self) -> bool:
        return any(self._offsets[partition] < target for partition, target in self._targets.items())

    def learn(self, batch: MessageBatch | None) -> list[None]:
        """Take windows in, one by one: updates and candidates fall due between any two of them."""
        if batch is None:
            return [None]
        for value, offset in zip(batch.values, batch.offsets.tolist(), strict=True):
            summary = _decode(value or b"null")
            learner = self._learner(summary.task, batch.partition, offset)
            if learner and offset >= learner.next_offset:
                learner.take(summary, offset)
            self._offsets[batch.partition] = offset + 1
        return []

    def _learner(self, task: str, partition: int, offset: int) -> Learner | None:
        """Return the task's learner, as its checkpoint left it; partition, offset: of the message that asks."""
        if task in self.learners or task in self._skipped:
            return self.learners.get(task)
        if task not in self.tasks:
            self.tasks.refresh()
        spec = self.tasks.specs[task]
        if not spec.discrete:
            logger.warning("task %s has continuous actions: DQN learns discrete ones only; it is not learned", task)
            self._skipped.add(task)
            return None
        learner = Learner(spec, self.chunks, self.store, self._clock, self._config, self._settings, self._seed)
        if offset >= learner.next_offset:
            learner.sent()  # what it had to say went out with the commit that lies beyond its checkpoint
        self.learners[task] = learner
        self._partition[task] = partition
        return learner

    def commit(self, ticks: list[None]) -> list[None]:
        """Where a learner is due: save all checkpoints, then send what was decided and move the commits to them.

        A learner killed in between reads some windows again, skips those that its checkpoint has, and sends then.
        """
        if not self.stop.finished and not any(learner.due for learner in self.learners.values()):
            return ticks
        if any(learner.next_offset > self._offsets[self._partition[task]] for task, learner in self.learners.items()):
            return ticks  # still reading again what a checkpoint has: a commit here would lie before it
        outputs = []
        for learner in self.learners.values():
            learner.save()
            outputs += learner.outputs()
        commits = {partition: Commit(offset) for partition, offset in self._offsets.items()}
        retrying(lambda: self._subscription.commit(commits, outputs), self.stop)
        for learner in self.learners.values():
            learner.sent()
        return ticks


def dataflow(learn: Learn) -> Dataflow:
    """Wire the steps; the item's shape stands after each."""
    flow = Dataflow("learn")
    step = learn.stop.guarded
    windows = op.input("windows", flow, PollSource(learn.poll, learn.stop))  # MessageBatch | None (a tick)
    learned = op.flat_map("learn", windows, step(learn.learn))  # None (a tick): all before it is taken in
    op.output("commit", learned, CallSink(step(learn.commit)))
    return flow
