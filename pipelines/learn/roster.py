"""The learners of the tasks whose partitions this process has."""

import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from headrace.learners.stream.stated import learned_by, require_able, stated
from headrace.pipelines.learn.checkpoint import place_in
from headrace.pipelines.learn.learner import Learner, Learning, Ports
from headrace.pipelines.published import directives
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import WINDOWS
from headrace.schemas.errors import SettingsError
from headrace.schemas.partition import partition_of
from headrace.schemas.records import TaskSpec

logger = logging.getLogger(__name__)

METADATA_BYTES: Final = 3_500
"""Of a commit's metadata; Kafka allows 4,096, of which the log's own mark takes some."""
EVERY_TASK: Final = "*"
"""In the metadata, where all tasks that are learned have no room: each that the partition may have."""


class Roster:
    """A learner a task, made when the task's first window comes. learners: those that there are, by task."""

    def __init__(
        self, ports: Ports, tasks: TaskTable, learning: Learning, only: Sequence[str] = (), *, from_start: bool = False
    ) -> None:
        """only: the tasks to learn, () for all. from_start: whether to learn these from the first window held."""
        self.learners: dict[str, Learner] = {}
        self._ports = ports
        self._tasks = tasks
        self._learning = learning
        self._only = frozenset(only)
        self._from_start = set(only) if from_start else set[str]()
        self._partition: dict[str, int] = {}
        self._learned: dict[int, dict[str, int]] = {}

    def open(self, partition: int, metadata: str) -> tuple[list[str], int | None]:
        """Take a partition. metadata: of its commit.

        Returns the tasks that were learned before and have lost their checkpoint, and the first offset that a learner
        needs, where it may lie before the commit: 0 for what must be learned from the first window.
        """
        known = self._known(metadata, partition)
        self._learned[partition] = known
        lost, offsets = [], [0] if any(self._of(task) == partition for task in self._from_start) else []
        for task in filter(self._wanted, {**known, **dict.fromkeys(self._here(partition))}):
            data = self._ports.store.load(task)  # once, and one at a time: each may hold a priority a row of replay
            if data is not None:
                # Another group's commits tell of it, as by `--task`, or it was learned anew since.
                place = place_in(task, data)[0]
                offsets += [place.next_offset] if task not in known or place.from_start else []
            elif task in known:
                lost.append(task)
        return lost, min([*offsets, *([0] if lost else [])], default=None)

    def _known(self, metadata: str, partition: int) -> dict[str, int]:
        """Return the tasks that were learned, and up to which offset as far as the metadata says."""
        found = msgspec.json.decode(metadata or "{}", type=dict[str, int] | list[str])
        known = dict.fromkeys(found, 0) if isinstance(found, list) else found
        if EVERY_TASK in known:
            known = dict.fromkeys(self._here(partition), 0)
        return known

    def _here(self, partition: int) -> list[str]:
        """Return the tasks whose windows lie in a partition."""
        self._tasks.refresh()
        return [task for task in self._tasks.specs if self._of(task) == partition]

    def _of(self, task: str) -> int:
        return partition_of(task.encode(), self._ports.log.topic(WINDOWS).partitions)

    def _wanted(self, task: str) -> bool:
        return not self._only or task in self._only

    def close(self, partition: int) -> None:
        """Whoever has the partition next goes on from the checkpoints; what is in memory here grows stale."""
        for task in [task for task, where in self._partition.items() if where == partition]:
            self.learners.pop(task, None)
            del self._partition[task]

    def metadata(self, partition: int) -> str:
        """Return what a commit says of a partition, once its learners are saved: who has a checkpoint, up to where."""
        learned = self._learned[partition]
        for task, learner in self.learners.items():
            if self._partition[task] == partition:
                learned[task] = learner.progress.next_offset
                if learner.progress.next_offset:
                    self._from_start.discard(task)
        said = msgspec.json.encode(dict(sorted(learned.items())))
        return (said if len(said) <= METADATA_BYTES else msgspec.json.encode({EVERY_TASK: 0})).decode()

    def learner(self, task: str, partition: int) -> Learner | None:
        """Return the task's learner, as its checkpoint left it; None for a task that is not learned here."""
        if task not in self._partition:
            self._partition[task] = partition
            learner = self._learner(task, partition) if self._wanted(task) else None
            if learner is not None:
                self.learners[task] = learner
        return self.learners.get(task)

    def _made(self, spec: TaskSpec, partition: int) -> Learner:
        known = self._learned[partition]
        return Learner(
            spec,
            self._ports,
            self._learning,
            lost=spec.task in known or spec.task in self._from_start,
            from_start=spec.task in self._from_start,
            emitted=known.get(spec.task, 0),
        )

    def _learner(self, task: str, partition: int) -> Learner | None:
        spec = self._tasks.spec(task)
        if spec is None:
            logger.warning("task %s was never added: it is not learned", task)
            return None
        if task not in self._from_start and self._ports.store.load(task) is not None:
            return self._made(spec, partition)  # it goes on by its checkpoint's algorithm
        try:
            values = stated(spec, directives(self._ports.log, task))
            require_able(spec, learned_by(spec, values, self._learning.config, self._learning.settings).config)
            return self._made(spec, partition)
        except (SettingsError, MemoryError, ValueError, RuntimeError) as error:  # torch's of memory are RuntimeErrors
            problem = error if isinstance(error, SettingsError) else f"{type(error).__name__}: {error}"
            logger.warning(
                "task %s is not learned, and its windows are passed over: %s; `headrace run learn --task %s "
                "--from-start` learns it from the first window that the log holds",
                *(task, problem, task),
            )
            return None
