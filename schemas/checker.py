"""What becomes of a batch of messages, whatever their content type: accepted rows, and what was rejected and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.ports import MessageBatch
from headrace.schemas.records import Layout, TaskSpec
from headrace.schemas.rules import Rule, explain, first_broken, rules_for
from headrace.schemas.transition import TransitionBatch


class BadMessageError(Exception):
    """A message that breaks one of `rules.MESSAGE_RULES`; never leaves schemas."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the message at a position in its batch was not accepted."""

    position: int
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task, its rules, and the append time of its spec: messages before it don't know the task."""

    spec: TaskSpec
    rules: tuple[Rule, ...]
    added_ms: int


Tasks = Mapping[str, Task]


def known_task(spec: TaskSpec, added_ms: int, layout: Layout) -> Task:
    """Make a Task of a spec."""
    return Task(spec, rules_for(spec, layout), added_ms)


@dataclass(slots=True)
class Checked:
    """What a batch of messages holds: a batch of transitions per task, heartbeats, and what was rejected.

    stream_ts: int64[messages], min(event time, append time), the greatest of the message's rows; -1 where it was
    rejected. unknown: tasks that no spec was found for.
    """

    batches: list[TransitionBatch]
    rejected: list[Rejection]
    stream_ts: NDArray[np.int64]
    unknown: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Checker:
    """The state of one `check`; positions are those of messages in the batch."""

    messages: MessageBatch
    tasks: Tasks
    layout: Layout
    checked: Checked

    def reject(self, position: int, rule: str, reason: str) -> None:
        """Note why a message is not accepted."""
        self.checked.rejected.append(Rejection(position, rule, reason))

    def known(self, version: int, name: str, position: int) -> bool:
        """Whether the message's version and task are known; rejects it, once, where not."""
        if version != 1:
            rule, reason = "schema_version", f"schema_version {str(version)[:20]}; 1 is known"
        else:
            task = self.tasks.get(name)
            if task and self.messages.append_ts[position] >= task.added_ms:
                return True
            if not task:
                self.checked.unknown.add(name)
            rule, reason = "unknown_task", f"task {name[:80]!r} was not added before this message"
        if not self.checked.rejected or self.checked.rejected[-1].position != position:
            self.reject(position, rule, reason)
        return False

    def accept(self, task: Task, batch: TransitionBatch, errors: Mapping[int, BadMessageError]) -> None:
        """Apply the rules; drop every row of a message that has a bad one."""
        for place, error in errors.items():
            self.reject(place, error.rule, error.reason)
        position = np.searchsorted(self.messages.offsets, batch.offset)
        append_ts = self.messages.append_ts[position]
        bad = set(errors)
        for row, number in first_broken(task.rules, batch, append_ts):
            place = int(position[row])
            if place not in bad:
                bad.add(place)
                rule = task.rules[number]
                self.reject(place, rule.name, explain(rule, batch, row, int(append_ts[row])))
        if bad:
            keep = ~np.isin(position, list(bad))
            batch, position, append_ts = batch.take(keep), position[keep], append_ts[keep]
        if len(batch):
            np.maximum.at(self.checked.stream_ts, position, np.minimum(batch.ts, append_ts))
            self.checked.batches.append(batch)
