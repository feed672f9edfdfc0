"""Questions to the index: transitions and chunks of a task, streamed in key order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from headrace.pipelines.tasks import task_specs
from headrace.schemas.chunk import ChunkRow, decode_chunk, decode_stats, total_stats
from headrace.schemas.codec import to_records
from headrace.schemas.errors import UnknownTaskError
from headrace.schemas.partition import group_of
from headrace.schemas.ports import Index, Log
from headrace.schemas.reasons import did_you_mean
from headrace.schemas.records import TaskSpec, WindowKey
from headrace.schemas.transition import TransitionBatch


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked for: a task's rows with start_ms <= time < end_ms, of one agent or all.

    A transition's time is its ts; a chunk's or window's is the window's start.
    """

    spec: TaskSpec
    agent_id: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def group(self) -> int | None:
        """The group that the agent's rows lie in."""
        return None if self.agent_id is None else group_of(self.agent_id, self.spec.groups)


def task_spec(log: Log, task: str) -> TaskSpec:
    """Return a task's spec; raises UnknownTaskError, which lists the known ones."""
    specs = task_specs(log)
    if task not in specs:
        meant, known = did_you_mean(task, specs) or ";", ", ".join(sorted(specs)) or "none yet"
        raise UnknownTaskError(
            f"task {task!r} was never added{meant} known: {known}. Add it by `headrace task add FILE`"
        )
    return specs[task]


def transitions(index: Index, selection: Selection) -> Iterator[dict[str, Any]]:
    """Stream transitions as the JSON objects that stand for them, as `transition_batches` has them."""
    for batch in transition_batches(index, selection):
        yield from to_records(batch, selection.spec)


def transition_batches(index: Index, selection: Selection) -> Iterator[TransitionBatch]:
    """Stream transitions, a batch for each chunk that has some.

    In a window, a row with the (agent, episode, step) of an earlier one in log order is dropped.
    """
    window: WindowKey | None = None
    seen: set[tuple[str, str, int]] = set()
    for row in _transition_chunks(index, selection):
        key = WindowKey(row.key.task, row.key.group, row.key.start_ms, 0)
        if key != window:
            window, seen = key, set()
        batch = _unseen(decode_chunk(row.payload, row.checksum, row.reference), seen)
        if len(wanted := _selected(batch, selection)):
            yield wanted


def _transition_chunks(index: Index, selection: Selection) -> Iterator[ChunkRow]:
    start_ms = selection.start_ms
    if start_ms is not None:
        start_ms -= start_ms % selection.spec.window_ms
    return index.scan(selection.spec.task, start_ms, selection.end_ms, group=selection.group)


def _unseen(batch: TransitionBatch, seen: set[tuple[str, str, int]]) -> TransitionBatch:
    """Drop rows that were seen, and remember the others."""
    agents = [batch.agents[i] for i in batch.agent.tolist()]
    episodes = [batch.episodes[i] for i in batch.episode.tolist()]
    names = list(zip(agents, episodes, batch.step.tolist(), strict=True))
    fresh = np.array([name not in seen for name in names], np.bool_)  # within a chunk they are unique
    seen.update(names)
    return batch if fresh.all() else batch.take(fresh)


def _selected(batch: TransitionBatch, selection: Selection) -> TransitionBatch:
    wanted = np.ones(len(batch), np.bool_)
    if selection.agent_id is not None:
        wanted &= np.array([name == selection.agent_id for name in batch.agents], np.bool_)[batch.agent]
    if selection.start_ms is not None:
        wanted &= batch.ts >= selection.start_ms
    if selection.end_ms is not None:
        wanted &= batch.ts < selection.end_ms
    return batch if wanted.all() else batch.take(wanted)


def chunks(index: Index, selection: Selection) -> Iterator[dict[str, Any]]:
    """Stream chunks: key, counts, checksum, payload size and the totals of their stats."""
    for row in index.scan(selection.spec.task, selection.start_ms, selection.end_ms, group=selection.group):
        stats = decode_stats(row.stats)
        if selection.agent_id is None or selection.agent_id in stats.agents:
            yield {
                **msgspec.to_builtins(row.key),
                "rows": row.rows,
                "received": row.received,
                "checksum": row.checksum,
                "bytes": len(row.payload),
                "totals": msgspec.to_builtins(total_stats(stats), str_keys=True),
            }
