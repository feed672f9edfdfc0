"""Chunks: the rows of one (task, group, window, partition, segment), their bytes, their stats and the fold.

The payload is a msgpack array of columns, compressed by zstd; its checksum covers the uncompressed bytes, and
those depend on the rows alone: names are sorted, integers are stored as differences from row to row.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np
import zstandard
from msgspec import Struct
from numpy.typing import NDArray

from headrace.schemas.errors import CorruptDataError
from headrace.schemas.records import AgentStats, ChunkKey, ChunkReference, ChunkSummary
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

PART_ROWS = 4096
"""The most rows in one part of a chunk."""
MAX_PAYLOAD_BYTES = 1 << 30

_compressor = zstandard.ZstdCompressor(level=1)
_decompressor = zstandard.ZstdDecompressor()


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


class _Payload(Struct, array_like=True, frozen=True):
    version: int
    rows: int
    width: int
    task: str
    agents: list[str]
    episodes: list[str]
    agent: bytes
    episode: bytes
    step: bytes
    ts: bytes
    offset: bytes
    obs: bytes
    next_obs: bytes
    action: bytes
    discrete: bool
    reward: bytes
    ends: bytes
    term_count: int
    reward_terms: bytes
    policy_version: bytes
    log_prob: bytes


_encoder = msgspec.msgpack.Encoder()
_payload_decoder = msgspec.msgpack.Decoder(_Payload)


def payload_bytes(batch: TransitionBatch) -> bytes:
    """Return the rows' canonical uncompressed bytes."""
    agents, agent = _sorted_codes(batch.agents, batch.agent)
    episodes, episode = _sorted_codes(batch.episodes, batch.episode)
    terms_absent = batch.reward_terms.size == 0 or bool(np.isnan(batch.reward_terms).all())
    return _encoder.encode(
        _Payload(
            version=1,
            rows=len(batch),
            width=batch.obs.shape[1],
            task=batch.task,
            agents=agents,
            episodes=episodes,
            agent=agent,
            episode=episode,
            step=_differences(batch.step),
            ts=_differences(batch.ts),
            offset=_differences(batch.offset),
            obs=batch.obs.tobytes(),
            next_obs=batch.next_obs.tobytes(),
            action=batch.action.tobytes(),
            discrete=batch.action.ndim == 1,
            reward=batch.reward.tobytes(),
            ends=(batch.terminated.view(np.uint8) | (batch.truncated.view(np.uint8) << 1)).tobytes(),
            term_count=batch.reward_terms.shape[1],
            reward_terms=b"" if terms_absent else batch.reward_terms.tobytes(),
            policy_version=_unless_all(batch.policy_version, batch.policy_version == NO_POLICY_VERSION),
            log_prob=_unless_all(batch.log_prob, np.isnan(batch.log_prob)),
        )
    )


def _sorted_codes(names: Sequence[str], column: NDArray[np.int32]) -> tuple[list[str], bytes]:
    """Code a column by the sorted list of just the names that occur in it, in the narrowest integers."""
    if len(names) == 1 or (len(column) and bool((column == column[0]).all())):
        return [names[column[0]]], bytes(len(column))
    present = np.flatnonzero(np.bincount(column, minlength=len(names)))
    ranked = sorted(present.tolist(), key=names.__getitem__)
    code = np.empty(len(names), np.min_scalar_type(len(ranked) - 1))
    code[ranked] = np.arange(len(ranked))
    return [names[i] for i in ranked], code[column].tobytes()


def _differences(column: NDArray[np.int64]) -> bytes:
    out = column.copy()
    np.subtract(column[1:], column[:-1], out=out[1:])
    return out.tobytes()


def _unless_all(column: NDArray[Any], absent: NDArray[np.bool_]) -> bytes:
    return b"" if bool(absent.all()) else column.tobytes()


def encode_chunk(batch: TransitionBatch) -> tuple[bytes, int]:
    """Return the rows' compressed payload, and its checksum (CRC-32 of the uncompressed bytes)."""
    raw = payload_bytes(batch)
    return _compressor.compress(raw), zlib.crc32(raw)


def uncompress(payload: bytes, checksum: int, name: object) -> bytes:
    """Return a payload's canonical bytes; raises CorruptDataError, which names the chunk."""
    try:
        raw = _decompressor.decompress(payload, max_output_size=MAX_PAYLOAD_BYTES)
    except zstandard.ZstdError as error:
        raise CorruptDataError(f"chunk {name}: its payload does not decompress ({error})") from error
    if zlib.crc32(raw) != checksum:
        raise CorruptDataError(
            f"chunk {name}: checksum {zlib.crc32(raw):08x}, expected {checksum:08x}; "
            "re-ingest its segment, or restore the index"
        )
    return raw


def decode_chunk(payload: bytes, checksum: int, name: object) -> TransitionBatch:
    """Return a payload's rows; raises CorruptDataError, which names the chunk."""
    raw = uncompress(payload, checksum, name)
    try:
        return _columns(_payload_decoder.decode(raw))
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        raise CorruptDataError(f"chunk {name}: {error}") from error


def decode_reference(row_payload: bytes, row: ChunkReference, wanted: ChunkReference) -> TransitionBatch:
    """Return the `wanted.rows` first rows of a row that may have grown since; checks their checksum."""
    batch = decode_chunk(row_payload, row.checksum, wanted)
    if row.rows == wanted.rows and row.checksum == wanted.checksum:
        return batch
    batch = batch.slice(0, wanted.rows)
    found = zlib.crc32(payload_bytes(batch))
    if found != wanted.checksum:
        raise CorruptDataError(f"chunk {wanted}: the index holds other rows (checksum {found:08x})")
    return batch


def _columns(p: _Payload) -> TransitionBatch:
    def integers(data: bytes) -> NDArray[np.int64]:
        return np.cumsum(np.frombuffer(data, np.int64))

    def floats(data: bytes) -> NDArray[np.float32]:
        return np.frombuffer(data, np.float32).reshape(p.rows, -1)

    def codes(data: bytes) -> NDArray[np.int32]:
        return np.frombuffer(data, f"u{len(data) // p.rows}").astype(np.int32)

    ends = np.frombuffer(p.ends, np.uint8)
    return TransitionBatch(
        task=p.task,
        agents=tuple(p.agents),
        episodes=tuple(p.episodes),
        agent=codes(p.agent),
        episode=codes(p.episode),
        step=integers(p.step),
        ts=integers(p.ts),
        offset=integers(p.offset),
        obs=floats(p.obs),
        action=np.frombuffer(p.action, np.int32) if p.discrete else floats(p.action),
        reward=np.frombuffer(p.reward, np.float32),
        next_obs=floats(p.next_obs),
        terminated=(ends & 1).astype(np.bool_),
        truncated=(ends >> 1).astype(np.bool_),
        reward_terms=floats(p.reward_terms) if p.reward_terms else np.full((p.rows, p.term_count), np.nan, np.float32),
        policy_version=np.frombuffer(p.policy_version, np.int64)
        if p.policy_version
        else np.full(p.rows, NO_POLICY_VERSION, np.int64),
        log_prob=np.frombuffer(p.log_prob, np.float32) if p.log_prob else np.full(p.rows, np.nan, np.float32),
    )


@dataclass(frozen=True, slots=True, eq=False)
class ChunkStats:
    """What A agents did: a row per agent, in the order of their names, summed row by row in log order.

    rows, episode_ends, first_offset, last_offset: int64[A]. reward_sum: float64[A].
    reward_min, reward_max: float32[A]. reward_terms: float64[A, K], of the rows that have them.
    actions: int64[A, actions], histograms. version_*: int64[V], (agent, policy version, rows) triples, sorted.
    """

    agents: tuple[str, ...]
    rows: NDArray[np.int64]
    reward_sum: NDArray[np.float64]
    reward_min: NDArray[np.float32]
    reward_max: NDArray[np.float32]
    reward_terms: NDArray[np.float64]
    actions: NDArray[np.int64]
    episode_ends: NDArray[np.int64]
    first_offset: NDArray[np.int64]
    last_offset: NDArray[np.int64]
    version_agent: NDArray[np.int64]
    version: NDArray[np.int64]
    version_rows: NDArray[np.int64]

    def slice(self, start: int, stop: int, agents: tuple[str, ...]) -> "ChunkStats":
        """Return agents start to stop, under the given names."""
        low, high = np.searchsorted(self.version_agent, (start, stop)).tolist()
        column: dict[str, Any] = {name: getattr(self, name)[start:stop] for name in _BY_AGENT}
        return ChunkStats(
            agents,
            **column,
            version_agent=self.version_agent[low:high] - start,
            version=self.version[low:high],
            version_rows=self.version_rows[low:high],
        )


_BY_AGENT = tuple(f.name for f in fields(ChunkStats))[1:10]
_DTYPES = dict(
    zip(
        (f.name for f in fields(ChunkStats) if f.name != "agents"),
        ("i8", "f8", "f4", "f4", "f8", "i8", "i8", "i8", "i8", "i8", "i8", "i8"),
        strict=True,
    )
)


def stats_by(batch: TransitionBatch, code: NDArray[Any], count: int, action_count: int) -> ChunkStats:
    """Compute stats of `count` codes (0 to count - 1, each occurring); the caller names them by `slice`.

    action_count: the number of discrete actions, 0 for continuous ones.
    """
    reward_sum: NDArray[np.float64] = np.bincount(code, batch.reward.astype(np.float64), count).astype(np.float64)
    ends = (batch.terminated | batch.truncated).astype(np.float64)
    order, starts = _runs(code, count)
    terms = np.empty((count, batch.reward_terms.shape[1]), np.float64)
    for k, column in enumerate(np.nan_to_num(batch.reward_terms.astype(np.float64)).T):
        terms[:, k] = np.bincount(code, column, count)
    actions = np.zeros((count, action_count), np.int64)
    if action_count:
        cells = np.bincount(code * action_count + batch.action, minlength=count * action_count)
        actions = cells.reshape(count, action_count)
    sorted_reward, sorted_offset = batch.reward[order], batch.offset[order]
    versions = _version_counts(code[batch.policy_version >= 0], batch.policy_version[batch.policy_version >= 0])
    return ChunkStats(
        (),
        np.bincount(code, minlength=count),
        reward_sum,
        np.minimum.reduceat(sorted_reward, starts),
        np.maximum.reduceat(sorted_reward, starts),
        terms,
        actions,
        np.bincount(code, ends, count).astype(np.int64),
        np.minimum.reduceat(sorted_offset, starts),
        np.maximum.reduceat(sorted_offset, starts),
        *versions,
    )


def _runs(code: NDArray[Any], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order that brings equal codes together, and where each code's run starts in it."""
    order = sort_positions(code)
    starts = np.zeros(count, np.int64)
    np.cumsum(np.bincount(code, minlength=count)[:-1], out=starts[1:])
    return order, starts


def sort_positions(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return the stable order of non-negative integer keys: one sort of (key, position) packed in int64."""
    bits = max(1, len(keys).bit_length())
    if len(keys) and int(keys.max()) >> (62 - bits):
        return np.argsort(keys, kind="stable")
    packed = (keys.astype(np.int64) << bits) | np.arange(len(keys))
    packed.sort()
    return packed & ((1 << bits) - 1)


def _version_counts(
    code: NDArray[Any], version: NDArray[np.int64], weights: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count rows by (code, version), sorted by both."""
    if not len(code):
        empty = np.empty(0, np.int64)
        return empty, empty, empty
    names, version_code = np.unique(version, return_inverse=True)
    pair = code.astype(np.int64) * len(names) + version_code
    cells = np.bincount(pair, weights).astype(np.int64)
    present = np.flatnonzero(cells)
    return present // len(names), names[present % len(names)], cells[present]


def encode_stats(stats: ChunkStats) -> bytes:
    """Return stats as bytes, the same for the same stats."""
    return _encoder.encode(
        (1, stats.agents, *(np.ascontiguousarray(getattr(stats, name)).tobytes() for name in _DTYPES))
    )


def decode_stats(data: bytes) -> ChunkStats:
    """Read stats from bytes."""
    _, agents, *blobs = msgspec.msgpack.decode(data)
    columns: dict[str, Any] = {
        name: np.frombuffer(blob, dtype) for (name, dtype), blob in zip(_DTYPES.items(), blobs, strict=True)
    }
    for name in ("reward_terms", "actions"):
        columns[name] = columns[name].reshape(len(agents), -1)
    return ChunkStats(tuple(agents), **columns)


def fold_stats(parts: Sequence[ChunkStats]) -> ChunkStats:
    """Fold parts' stats by agent, in the order given: folding in steps gives the same, to the bit."""
    if len(parts) == 1:
        return parts[0]
    names = tuple(sorted({name for part in parts for name in part.agents}))
    place = {name: i for i, name in enumerate(names)}
    code = np.fromiter((place[name] for part in parts for name in part.agents), np.int64)
    return _merge(parts, code, names)


def _merge(parts: Sequence[ChunkStats], code: NDArray[np.int64], names: tuple[str, ...]) -> ChunkStats:
    """Add up the parts' rows that share a code (a position in names)."""
    count = len(names)
    column: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _DTYPES}
    first_row = np.cumsum([0, *(len(part.agents) for part in parts)])
    version_row = np.concatenate(
        [part.version_agent + first for part, first in zip(parts, first_row.tolist(), strict=False)]
    )
    order, starts = _runs(code, count)
    return ChunkStats(
        names,
        _sums(column["rows"], code, count),
        _sums(column["reward_sum"], code, count),
        np.minimum.reduceat(column["reward_min"][order], starts),
        np.maximum.reduceat(column["reward_max"][order], starts),
        _sums(column["reward_terms"], code, count),
        _sums(column["actions"], code, count),
        _sums(column["episode_ends"], code, count),
        np.minimum.reduceat(column["first_offset"][order], starts),
        np.maximum.reduceat(column["last_offset"][order], starts),
        *_version_counts(code[version_row], column["version"], column["version_rows"]),
    )


def _sums(column: NDArray[Any], code: NDArray[np.int64], count: int) -> NDArray[Any]:
    """Add up rows of equal code, one after another (bincount adds in order; add.reduce would not)."""
    out = np.zeros((count, *column.shape[1:]), column.dtype)
    if column.ndim == 1:
        out[:] = np.bincount(code, column, count)
    else:
        for k in range(column.shape[1]):
            out[:, k] = np.bincount(code, column[:, k], count)
    return out


def agent_stats(stats: ChunkStats) -> list[AgentStats]:
    """Return one record per agent, in the order of their names."""
    versions: list[dict[int, int]] = [{} for _ in stats.agents]
    for agent, version, rows in zip(
        stats.version_agent.tolist(), stats.version.tolist(), stats.version_rows.tolist(), strict=True
    ):
        versions[agent][version] = rows
    return list(
        map(
            AgentStats,
            stats.agents,
            stats.rows.tolist(),
            stats.reward_sum.tolist(),
            stats.reward_min.tolist(),
            stats.reward_max.tolist(),
            map(tuple, stats.reward_terms.tolist()),
            map(tuple, stats.actions.tolist()),
            stats.episode_ends.tolist(),
            versions,
            stats.first_offset.tolist(),
            stats.last_offset.tolist(),
        )
    )


def total_stats(stats: ChunkStats) -> AgentStats:
    """Return the stats of all agents together, summed in the order of their names."""
    return agent_stats(_merge([stats], np.zeros(len(stats.agents), np.int64), ("",)))[0]
