"""The learners of the tasks whose partitions this process has."""

import logging
from collections.abc import Sequence

from headrace.learners.stream.algorithms import algorithm
from headrace.pipelines.learn.learner import Learner, Learning, Ports
from headrace.pipelines.tasks import TaskTable
from headrace.schemas.records import TaskSpec

logger = logging.getLogger(__name__)


class Roster:
    """A learner a task, made when the task's first window comes. learners: those that there are, by task."""

    def __init__(self, ports: Ports, tasks: TaskTable, learning: Learning) -> None:
        self.learners: dict[str, Learner] = {}
        self._ports = ports
        self._tasks = tasks
        self._learning = learning
        self._partition: dict[str, int] = {}
        self._learned: dict[int, set[str]] = {}

    def open(self, partition: int, learned: Sequence[str]) -> list[str]:
        """Take a partition whose tasks were learned before; return those of them that have lost their checkpoint."""
        self._learned[partition] = set(learned)
        return [task for task in learned if self._ports.store.load(task) is None]

    def close(self, partition: int) -> None:
        """Whoever has the partition next goes on from the checkpoints; what is in memory here grows stale."""
        for task in [task for task, where in self._partition.items() if where == partition]:
            self.learners.pop(task, None)
            del self._partition[task]

    def tasks_of(self, partition: int) -> list[str]:
        """Return the tasks of a partition that have a checkpoint, once those of its learners are saved."""
        learned = self._learned[partition]
        learned.update(task for task in self.learners if self._partition[task] == partition)
        return sorted(learned)

    def learner(self, task: str, partition: int) -> Learner | None:
        """Return the task's learner, as its checkpoint left it; None for a task that can't be learned."""
        if task not in self._partition:
            self._partition[task] = partition
            spec = self._learnable(task)
            if spec is not None:
                lost = task in self._learned[partition]
                self.learners[task] = Learner(spec, self._ports, self._learning, lost=lost)
        return self.learners.get(task)

    def _learnable(self, task: str) -> TaskSpec | None:
        spec = self._tasks.spec(task)
        if spec is None or self._beyond_its_actions(spec):
            name = self._learning.config.algorithm.upper()
            reason = f"has continuous actions, and {name} learns discrete ones only" if spec else "was never added"
            logger.warning("task %s %s: it is not learned", task, reason)
            return None
        return spec

    def _beyond_its_actions(self, spec: TaskSpec) -> bool:
        """Whether the algorithm can't learn a task's actions; one with a checkpoint goes on by that one's algorithm."""
        if spec.discrete or algorithm(self._learning.config.algorithm).continuous:
            return False
        return self._ports.store.load(spec.task) is None
