"""What look-ups read: the log, the index and the policy store, each a bounded part of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Final

from headrace.learners.explain.evidence import controllers
from headrace.learners.explain.interval import moment_text
from headrace.learners.explain.studied import StudiedPolicy
from headrace.pipelines.ask.question import Question
from headrace.pipelines.published import published
from headrace.pipelines.query.agents import LOOKED_AT
from headrace.pipelines.query.windows import newest_start
from headrace.pipelines.tasks import task_specs
from headrace.pipelines.topics import INGEST, TRANSITIONS, IngestCommit
from headrace.schemas.chunk import decode_stats
from headrace.schemas.errors import HeadraceError
from headrace.schemas.ports import Index, Log, PolicyStore
from headrace.schemas.reasons import did_you_mean
from headrace.schemas.records import PolicyVersion, ServingPolicy, TaskSpec
from headrace.sinks.chunks import CachedChunks

RECENT_WINDOWS: Final = 16
"""Agents are known by name that have rows in one of so many windows, from the newest back."""


class NotKnownError(HeadraceError):
    """A question that cannot be answered: its message says what is missing."""


@dataclass(slots=True)
class _Recent:
    """What the newest windows say. newest_ms: the newest row's time, as far as it is known without reading rows."""

    agents: tuple[str, ...]
    newest_ms: int


@dataclass
class Ground:
    """Everything that answers come from. What is read of a task or a version is read once."""

    log: Log
    index: Index
    chunks: CachedChunks
    store: PolicyStore
    studied: dict[tuple[str, int], StudiedPolicy] = field(default_factory=dict)
    _recent: dict[str, _Recent] = field(default_factory=dict)

    @cached_property
    def specs(self) -> Mapping[str, TaskSpec]:
        """The tasks, by name."""
        return task_specs(self.log)

    def rules(self, spec: TaskSpec) -> Mapping[str, str]:
        """Return what text calls the baselines of a task's environment, by their names."""
        return controllers(spec)

    def agents(self, task: str) -> tuple[str, ...]:
        """Return the agents of a task that were heard of lately."""
        return self._looked_at(task).agents

    def newest_ms(self, task: str | None) -> int:
        """Return the time of the newest row of a task, or of all tasks."""
        return max((self._looked_at(name).newest_ms for name in self.specs if task in {None, name}), default=0)

    def newest_text(self, task: str) -> str:
        """Say of when a task's newest row is."""
        newest_ms = self.newest_ms(task)
        return f"the newest row known is of {moment_text(newest_ms)}" if newest_ms else "the index has no rows of it"

    def _looked_at(self, task: str) -> _Recent:
        if task not in self._recent:
            self._recent[task] = self._look(self.specs[task])
        return self._recent[task]

    def _look(self, spec: TaskSpec) -> _Recent:
        stream_ms = self._stream_ms
        closed = newest_start(self.index, spec.task, 0, stream_ms + 1, spec.window_ms) or 0
        first = max(0, closed - RECENT_WINDOWS * spec.window_ms)
        names: dict[str, None] = {}
        newest = 0
        for row in islice(self.index.scan(spec.task, first, payload=False), LOOKED_AT):
            names |= dict.fromkeys(decode_stats(row.stats, row.key).agents)
            newest = max(newest, row.key.start_ms + spec.window_ms - 1)
        return _Recent(tuple(names), min(newest, stream_ms))

    @cached_property
    def _stream_ms(self) -> int:
        """How far event time has come, over all partitions: what `ingest` has committed."""
        commits = self.log.committed(INGEST, TRANSITIONS).values()
        return max((IngestCommit.of(commit).stream_ms for commit in commits), default=0)

    def serving(self, task: str) -> list[ServingPolicy]:
        """Return the task's records on `policies`, in order; raises NotKnownError where none says what serves."""
        found = published(self.log, task)
        if not found or not found[-1].version:
            raise NotKnownError(f"no version serves {task}: `headrace policy list` shows what was made, and why not")
        return found

    def version(self, question: Question) -> PolicyVersion:
        """Return the version that is asked about: what serves, where none is named. Raises NotKnownError."""
        assert question.task is not None
        numbers = self.versions(question.task)
        if question.newest and question.version is None:
            number = max(numbers, default=0)
        else:
            number = self.serving(question.task)[-1].version if question.version is None else question.version
        if number not in numbers:
            known = ", ".join(map(str, [*numbers][-8:])) or "none yet"
            raise NotKnownError(f"{question.task} has no version {number}; the newest known: {known}")
        return numbers[number]

    def versions(self, task: str) -> dict[int, PolicyVersion]:
        """Return a task's versions by their numbers, in order."""
        return {one.version: one for one in self.store.versions(task)}

    def unknown_agent(self, task: str, agent: str) -> NotKnownError:
        """Say that an agent is not known, and which one was perhaps meant."""
        names = self.agents(task)
        known = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        meant = did_you_mean(agent, names) or ";"
        return NotKnownError(f"{task} has no rows of an agent {agent!r} of that time{meant} known lately: {known}")
