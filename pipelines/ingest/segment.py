"""Rows of one segment -> chunks: a group-by, so a chunk depends on the log alone.

The stream calls it at each fold with all rows of the open segment so far, the backfill once with all of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.pipelines.ingest.sample import sample
from headrace.schemas.chunk import PART_ROWS, ChunkRow, ChunkStats, compress, encode_stats, stats_by
from headrace.schemas.decisions import DecisionBatch
from headrace.schemas.outcomes import measures
from headrace.schemas.partition import group_of
from headrace.schemas.payload import Payloads, code_runs, sort_positions
from headrace.schemas.records import ChunkKey, TaskSpec, WindowKey
from headrace.schemas.transition import TransitionBatch, concat


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A chunk's part: its row, and its stats before they are encoded."""

    row: ChunkRow
    stats: ChunkStats


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """Rows in the order of their parts, duplicates dropped.

    keys, received: of each part. starts: int64[parts + 1], where each part's rows begin in `rows`.
    """

    rows: TransitionBatch
    keys: list[ChunkKey]
    received: list[int]
    starts: NDArray[np.int64]


def group_rows(rows: TransitionBatch, spec: TaskSpec, partition: int, segment: int) -> Grouped:
    """Sort one segment's rows of one task, given in log order, into parts of chunks."""
    groups = np.fromiter((group_of(name, spec.groups) for name in rows.agents), np.int64, len(rows.agents))
    group, window = groups[rows.agent], rows.ts // spec.window_ms
    cell = _cells(group, window)
    order = sort_positions(cell)
    cell = cell[order]
    chunk_starts = np.flatnonzero(np.diff(cell, prepend=-1))
    chunk = np.repeat(np.arange(len(chunk_starts)), np.diff(chunk_starts, append=len(cell)))
    kept = _first_of_each(rows, chunk, order)
    # A dropped row is counted to the part of the last row kept before it.
    ordinal: NDArray[np.int64] = np.cumsum(kept)
    ordinal = ordinal - ordinal[chunk_starts][chunk]
    part_number = ordinal // PART_ROWS
    new_part = np.flatnonzero(np.diff(part_number, prepend=-1) | np.diff(chunk, prepend=-1))
    kept_before = np.concatenate([[0], np.cumsum(kept)])
    first = order[new_part]
    keys = [
        ChunkKey(spec.task, g, w * spec.window_ms, partition, segment, p)
        for g, w, p in zip(group[first].tolist(), window[first].tolist(), part_number[new_part].tolist(), strict=True)
    ]
    received = np.diff(new_part, append=len(cell)).tolist()
    return Grouped(rows.take(order[kept]), keys, received, kept_before[np.append(new_part, len(cell))])


def _cells(group: NDArray[np.int64], window: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number each (group, window) by their order."""
    window = window - window.min()
    span = int(window.max()) + 1
    if span > 1 << 40:  # event times from 1970 to 9999, say: the product would overflow
        names, window = np.unique(window, return_inverse=True)
        span = len(names)
    return group * span + window


def _first_of_each(rows: TransitionBatch, chunk: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return a mask, in `order`, of the rows that are the first of their (chunk, agent, episode, step)."""
    who = rows.agent.astype(np.int64) * len(rows.episodes) + rows.episode
    if _steps_rise(who, rows.step):
        return np.ones(len(order), np.bool_)
    who, step = who[order], rows.step[order]
    by_identity = np.lexsort((step, who, chunk))  # stable: equal ones stay in log order
    same = np.zeros(len(order), np.bool_)
    before, after = by_identity[:-1], by_identity[1:]
    same[after] = (chunk[before] == chunk[after]) & (who[before] == who[after]) & (step[before] == step[after])
    return ~same


def _steps_rise(who: NDArray[np.int64], step: NDArray[np.int64]) -> bool:
    """Whether each (agent, episode) has rising steps, as in nearly every segment: then none is there twice."""
    order = sort_positions(who)
    same = np.diff(who[order]) == 0
    return not bool((same & (np.diff(step[order]) <= 0)).any())


def encode_parts(grouped: Grouped, spec: TaskSpec, received_before: Mapping[ChunkKey, int]) -> list[Part]:
    """Encode the parts that received rows since `received_before`."""
    rows, starts = grouped.rows, grouped.starts
    agents = code_runs(rows.agents, rows.agent, starts)
    episodes = code_runs(rows.episodes, rows.episode, starts)
    payloads = Payloads(rows, starts, agents, episodes)
    actions = spec.action_count if spec.discrete else 0
    stats = stats_by(rows, agents.code, len(agents.names), actions, measures(spec))
    counts = np.diff(starts).tolist()
    out = []
    for i, (key, received) in enumerate(zip(grouped.keys, grouped.received, strict=True)):
        if received != received_before.get(key):
            part_stats = stats.slice(agents.bounds[i], agents.bounds[i + 1], agents.of(i))
            payload, checksum = compress(payloads.raw(i))
            row = ChunkRow(key, counts[i], received, checksum, payload, encode_stats(part_stats))
            out.append(Part(row, part_stats))
    return out


@dataclass(slots=True)
class OpenSegment:
    """The rows of a partition's open segment, and its parts as of the last fold. start: its first offset."""

    partition: int
    start: int
    specs: Mapping[str, TaskSpec]
    parts: dict[ChunkKey, Part] = field(default_factory=dict)
    _rows: dict[str, list[TransitionBatch]] = field(default_factory=dict)

    def add(self, batches: Iterable[TransitionBatch]) -> None:
        """Take in checked rows."""
        for batch in batches:
            self._rows.setdefault(batch.task, []).append(batch)

    def encode(self) -> list[Part]:
        """Return the parts that have grown since the last time."""
        grown: list[Part] = []
        received = {key: part.row.received for key, part in self.parts.items()}
        for task, pieces in self._rows.items():
            rows = _in_log_order(concat(pieces))
            self._rows[task] = [rows]
            spec = self.specs[task]
            grown += encode_parts(group_rows(rows, spec, self.partition, self.start), spec, received)
        self.parts.update((part.row.key, part) for part in grown)
        return grown

    def sample(self, since: int, every: int) -> list[DecisionBatch]:
        """Sample the rows from an offset on; they are encoded."""
        found = []
        for task, (rows,) in self._rows.items():  # joined, in log order
            fresh = rows.slice(int(np.searchsorted(rows.offset, since)), len(rows))
            found.append(sample(fresh, self.specs[task], self.partition, every))
        return [batch for batch in found if batch is not None]

    def of(self, key: WindowKey) -> list[Part]:
        """Return a window's parts, in order."""
        out: list[Part] = []
        place = (key.task, key.group, key.start_ms, key.partition, self.start)
        while part := self.parts.get(ChunkKey(*place, len(out))):
            out.append(part)
        return out

    def begin(self, start: int) -> None:
        """Forget all, and begin the next one."""
        self._rows.clear()
        self.parts.clear()
        self.start = start


def _in_log_order(rows: TransitionBatch) -> TransitionBatch:
    """Sort by offset: a batch of mixed content types comes in one piece per type."""
    offsets: NDArray[np.int64] = rows.offset
    if (offsets[1:] >= offsets[:-1]).all():
        return rows
    return rows.take(np.argsort(offsets, kind="stable"))
