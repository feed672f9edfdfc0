"""Chunks: the rows of one (task, group, window, partition, segment), their bytes, their stats and the fold.

The payload is a msgpack array of columns, compressed by zstd; its checksum covers the uncompressed bytes, and
those depend on the rows alone: names are sorted, integers are stored as differences from row to row.
"""

import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Annotated, Any

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from headrace.schemas.errors import CorruptDataError
from headrace.schemas.outcomes import Measure, tallied
from headrace.schemas.payload import payload_bytes, rows_of, sort_positions
from headrace.schemas.records import AgentStats, ChunkKey, ChunkReference, ChunkSummary
from headrace.schemas.records.outcome import MAX_OUTCOMES
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

PART_ROWS = 4096
"""The most rows in one part of a chunk."""
MAX_PAYLOAD_BYTES = 1 << 28
"""The most bytes that a payload may claim to hold: a part of the widest task has less."""


@dataclass(frozen=True, slots=True, eq=False)
class ChunkRow:
    """A chunk's part as the index holds it. received: rows taken in, dropped duplicates included."""

    key: ChunkKey
    rows: int
    received: int
    checksum: int
    payload: bytes
    stats: bytes

    @property
    def write_time(self) -> int:
        """The write's timestamp in µs: the greater wins, and a part only grows."""
        return self.key.start_ms * 1000 + self.received

    @property
    def reference(self) -> ChunkReference:
        """The reference to all of its rows."""
        k = self.key
        return ChunkReference(k.task, k.group, k.start_ms, k.partition, k.segment, k.part, self.rows, self.checksum)

    @property
    def summary(self) -> ChunkSummary:
        """The reference as a window's summary holds it."""
        return ChunkSummary(self.key.segment, self.key.part, self.rows, self.checksum)


_REPAIR = "`headrace run ingest --from-start` writes it again, if the log still holds its rows"


class _Zstandard(threading.local):
    """A compressor and a decompressor for each thread: two threads may not share one."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=1).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_zstandard = _Zstandard()
_encoder = msgspec.msgpack.Encoder()


class _Stats(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Stats as they are stored; `outcomes` stands only where there are any."""

    version: int
    agents: list[str]
    counts: bytes
    rewards: bytes
    versions: bytes
    outcomes: Annotated[int, msgspec.Meta(ge=0, le=MAX_OUTCOMES)] = 0


_stats_decoder = msgspec.msgpack.Decoder(_Stats)


def encode_chunk(batch: TransitionBatch) -> tuple[bytes, int]:
    """Return the rows' compressed payload, and its checksum (CRC-32 of the uncompressed bytes)."""
    return compress(payload_bytes(batch))


def compress(raw: bytes) -> tuple[bytes, int]:
    """Return canonical bytes compressed, and their checksum."""
    return _zstandard.compress(raw), zlib.crc32(raw)


def uncompress(payload: bytes, checksum: int, name: object) -> bytes:
    """Return a payload's canonical bytes; raises CorruptDataError, which names the chunk."""
    try:
        size = zstandard.frame_content_size(payload)
        if not 0 <= size <= MAX_PAYLOAD_BYTES:
            raise CorruptDataError(
                f"chunk {name}: its payload claims {size} bytes, {MAX_PAYLOAD_BYTES} are allowed; {_REPAIR}"
            )
        raw = _zstandard.decompress(payload, max_output_size=size, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as error:
        raise CorruptDataError(f"chunk {name}: its payload does not decompress ({error}); {_REPAIR}") from error
    if zlib.crc32(raw) != checksum:
        raise CorruptDataError(f"chunk {name}: checksum {zlib.crc32(raw):08x}, expected {checksum:08x}; {_REPAIR}")
    return raw


def decode_chunk(payload: bytes, checksum: int, name: object) -> TransitionBatch:
    """Return a payload's rows; raises CorruptDataError, which names the chunk."""
    raw = uncompress(payload, checksum, name)
    try:
        return rows_of(raw)
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise CorruptDataError(f"chunk {name}: {error}; {_REPAIR}") from error


def decode_reference(row_payload: bytes, row: ChunkReference, wanted: ChunkReference) -> TransitionBatch:
    """Return the `wanted.rows` first rows of a row that may have grown since; checks their checksum."""
    batch = decode_chunk(row_payload, row.checksum, wanted)
    if len(batch) == wanted.rows and row.checksum == wanted.checksum:
        return batch
    if not 0 < wanted.rows <= len(batch):
        raise CorruptDataError(f"chunk {wanted}: the index holds {len(batch)} of its rows; {_REPAIR}")
    batch = batch.slice(0, wanted.rows)
    found = zlib.crc32(payload_bytes(batch))
    if found != wanted.checksum:
        raise CorruptDataError(f"chunk {wanted}: the index holds other rows (checksum {found:08x}); {_REPAIR}")
    return batch


@dataclass(frozen=True, slots=True, eq=False)
class ChunkStats:
    """What A agents did: a row per agent, in the order of their names, summed row by row in log order.

    counts: int64[A, 4 + actions]: first offset, last offset, rows, episode ends, then each discrete action's count.
    rewards: float64[A, 3 + K]: least reward, greatest reward, their sum, then each term's sum over the rows that
    have it; then, two columns for each of so many outcomes, its sum and the rows that it was read from. versions:
    int64[V, 3]: (agent, policy version, rows), sorted.
    """

    agents: tuple[str, ...]
    counts: NDArray[np.int64]
    rewards: NDArray[np.float64]
    versions: NDArray[np.int64]
    outcomes: int = 0

    def slice(self, start: int, stop: int, agents: Sequence[str]) -> "ChunkStats":
        """Return agents start to stop, under the given names."""
        versions = self.versions
        if len(versions):
            low, high = np.searchsorted(versions[:, 0], (start, stop)).tolist()
            versions = versions[low:high] - (start, 0, 0)
        rows = self.counts[start:stop], self.rewards[start:stop]
        return ChunkStats(tuple(agents), *rows, versions, self.outcomes)


def stats_by(
    batch: TransitionBatch, code: NDArray[Any], count: int, action_count: int, outcomes: Sequence[Measure] = ()
) -> ChunkStats:
    """Compute stats of `count` codes (0 to count - 1, each occurring); the caller names them by `slice`.

    action_count: the number of discrete actions, 0 for continuous ones. outcomes: of the task.
    """
    order = sort_positions(code)
    rows = np.bincount(code, minlength=count)
    starts = np.cumsum(rows) - rows
    offset, reward = batch.offset[order], batch.reward[order] + np.float32(0)  # + 0: -0 and 0 have no order
    counts = np.empty((count, 4 + action_count), np.int64)
    counts[:, 0] = np.minimum.reduceat(offset, starts)
    counts[:, 1] = np.maximum.reduceat(offset, starts)
    counts[:, 2] = rows
    counts[:, 3] = np.bincount(code[batch.terminated | batch.truncated], minlength=count)
    if action_count:
        cells = np.bincount(code * action_count + batch.action, minlength=count * action_count)
        counts[:, 4:] = cells.reshape(count, action_count)
    more = [np.where(np.isnan(column), 0, column) for column in batch.reward_terms.T]
    if outcomes:
        more += [*tallied(outcomes, batch.obs, batch.action, batch.next_obs, batch.reward_terms).T]
    rewards = np.empty((count, 3 + len(more)), np.float64)
    rewards[:, 0] = np.minimum.reduceat(reward, starts)
    rewards[:, 1] = np.maximum.reduceat(reward, starts)
    rewards[:, 2] = np.bincount(code, batch.reward, count)  # bincount adds row by row; add.reduce would not
    for k, column in enumerate(more):
        rewards[:, 3 + k] = np.bincount(code, column, count)
    versioned = np.flatnonzero(batch.policy_version != NO_POLICY_VERSION)
    ones = np.ones(len(versioned), np.int64)
    versions = _version_rows(code[versioned], batch.policy_version[versioned], ones)
    return ChunkStats((), counts, rewards, versions, len(outcomes))


def _version_rows(code: NDArray[Any], version: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return int64[V, 3]: (code, version, sum of rows), sorted."""
    if not len(code):
        return np.empty((0, 3), np.int64)
    names, version_code = np.unique(version, return_inverse=True)
    pairs, place = np.unique(code.astype(np.int64) * len(names) + version_code, return_inverse=True)
    sums = np.bincount(place, rows).astype(np.int64)
    return np.column_stack([pairs // len(names), names[pairs % len(names)], sums])


def encode_stats(stats: ChunkStats) -> bytes:
    """Return stats as bytes, the same for the same stats; they begin with a checksum of the others."""
    columns = (stats.counts.tobytes(), stats.rewards.tobytes(), stats.versions.tobytes())
    body = _encoder.encode(
        (2, stats.agents, *columns, stats.outcomes) if stats.outcomes else (1, stats.agents, *columns)
    )
    return zlib.crc32(body).to_bytes(4, "little") + body


def decode_stats(data: bytes, name: object = "of unknown key") -> ChunkStats:
    """Read stats from bytes; raises CorruptDataError, which names the chunk."""
    if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        raise CorruptDataError(f"chunk {name}: its stats don't match their checksum; {_REPAIR}")
    try:
        stored = _stats_decoder.decode(data[4:])
        return ChunkStats(
            tuple(stored.agents),
            np.frombuffer(stored.counts, np.int64).reshape(len(stored.agents), -1),
            np.frombuffer(stored.rewards, np.float64).reshape(len(stored.agents), -1),
            np.frombuffer(stored.versions, np.int64).reshape(-1, 3),
            stored.outcomes,
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise CorruptDataError(f"chunk {name}: its stats can't be read ({error}); {_REPAIR}") from error


def fold_stats(parts: Sequence[ChunkStats]) -> ChunkStats:
    """Fold parts' stats by agent, in the order given: folding in steps gives the same, to the bit."""
    return reduce(_plus, parts)


def _plus(one: ChunkStats, other: ChunkStats) -> ChunkStats:
    if one.agents != other.agents:
        names = tuple(sorted({*one.agents, *other.agents}))
        one, other = _spread(one, names), _spread(other, names)
    counts, rewards = one.counts + other.counts, one.rewards + other.rewards
    for table, a, b in ((counts, one.counts, other.counts), (rewards, one.rewards, other.rewards)):
        np.minimum(a[:, 0], b[:, 0], out=table[:, 0])
        np.maximum(a[:, 1], b[:, 1], out=table[:, 1])
    return ChunkStats(one.agents, counts, rewards, _plus_versions(one.versions, other.versions), one.outcomes)


def _spread(stats: ChunkStats, names: tuple[str, ...]) -> ChunkStats:
    """Return the stats under more names: agents that did nothing add nothing."""
    place = dict(zip(names, range(len(names)), strict=True))
    rows = np.fromiter(map(place.__getitem__, stats.agents), np.int64, len(stats.agents))
    counts = np.zeros((len(names), stats.counts.shape[1]), np.int64)
    rewards = np.zeros((len(names), stats.rewards.shape[1]), np.float64)
    counts[:, :2] = np.iinfo(np.int64).max, -1
    rewards[:, :2] = np.inf, -np.inf
    counts[rows], rewards[rows] = stats.counts, stats.rewards
    versions = stats.versions.copy()
    versions[:, 0] = rows[versions[:, 0]]
    return ChunkStats(names, counts, rewards, versions, stats.outcomes)


def _plus_versions(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(one) == len(other) and (one[:, :2] == other[:, :2]).all():
        return np.column_stack([one[:, :2], one[:, 2] + other[:, 2]]) if len(one) else one
    both = np.concatenate([one, other])
    return _version_rows(both[:, 0], both[:, 1], both[:, 2])


def agent_stats(stats: ChunkStats) -> list[AgentStats]:
    """Return one record per agent, in the order of their names."""
    versions: list[dict[int, int]] = [{} for _ in stats.agents]
    for agent, version, rows in stats.versions.tolist():
        versions[agent][version] = rows
    end = stats.rewards.shape[1] - 2 * stats.outcomes
    sums, rows = stats.rewards[:, end::2].tolist(), stats.rewards[:, end + 1 :: 2].astype(np.int64).tolist()
    columns = (stats.counts.tolist(), stats.rewards[:, :end].tolist(), versions, sums, rows)
    return [
        AgentStats(name, c[2], r[2], r[0], r[1], tuple(r[3:]), tuple(c[4:]), c[3], by, c[0], c[1], tuple(o), tuple(n))
        for name, c, r, by, o, n in zip(stats.agents, *columns, strict=True)
    ]


def total_stats(stats: ChunkStats) -> AgentStats:
    """Return the stats of all agents together, summed in the order of their names."""
    if len(stats.agents) == 1:
        return agent_stats(replace(stats, agents=("",)))[0]
    counts, versions = stats.counts.sum(axis=0, keepdims=True), stats.versions
    counts[0, :2] = stats.counts[:, 0].min(), stats.counts[:, 1].max()
    rewards = np.add.accumulate(stats.rewards)[-1:]  # adds in order; sum would not
    rewards[0, :2] = stats.rewards[:, 0].min(), stats.rewards[:, 1].max()
    versions = _version_rows(np.zeros(len(versions), np.int64), versions[:, 1], versions[:, 2])
    return agent_stats(ChunkStats(("",), counts, rewards, versions, stats.outcomes))[0]
