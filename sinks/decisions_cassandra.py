"""Sampled decisions on Cassandra, found by similarity: when did we last see such a state, and what happened?"""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
from cassandra import ConsistencyLevel
from numpy.typing import NDArray

from headrace.sinks.cassandra import Keyspace
from headrace.sinks.cassandra_writes import Write, Writes, batches

VECTOR: Final = 64
"""The width of the vectors in the index. Narrower observations are filled up with zeros: their distances stay."""
BUCKET_MS: Final = 3_600_000

_CANDIDATES: Final = 4
_COLUMNS: Final = (
    'task, ts, partition, "offset", row, agent_id, episode_id, step, policy_version, action, reward, outcome, obs'
)
_PUT: Final = (
    'INSERT INTO decisions (bucket_ms, vector, task, ts, partition, "offset", row, agent_id, episode_id, step, '
    "policy_version, action, reward, outcome, obs) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "USING TIMESTAMP ?"
)
_SIMILAR: Final = f"SELECT {_COLUMNS} FROM decisions WHERE task = ? ORDER BY vector ANN OF ? LIMIT ?"  # noqa: S608


class Decision(msgspec.Struct, frozen=True):
    """A decision and what followed. (partition, offset, row) is its place in the log, so that it is stored once.

    ts: event time in ms. action: -1 for continuous ones. outcome: the rewards that followed, as the sampler sums
    them. obs: float32[D] as bytes, scaled so that distances mean something.
    """

    task: str
    ts: int
    partition: int
    offset: int
    row: int
    agent_id: str
    episode_id: str
    step: int
    policy_version: int
    action: int
    reward: float
    outcome: float
    obs: bytes

    @property
    def observation(self) -> NDArray[np.float32]:
        """float32[D]."""
        return np.frombuffer(self.obs, np.float32)


class CassandraDecisions:
    """Writes go with the index's own: they are durable after its flush."""

    def __init__(self, keyspace: Keyspace, writes: Writes) -> None:
        self._keyspace = keyspace
        self._writes = writes
        self._put = keyspace.prepare(_PUT)
        # Cassandra finds the nearest with one replica's answers alone.
        self._similar = keyspace.prepare(_SIMILAR, consistency=ConsistencyLevel.LOCAL_ONE)

    def put(self, decisions: Sequence[Decision]) -> None:
        """Begin to write decisions; the same again changes nothing.

        One batch at a time: Cassandra 5.0 fails a write into a vector index, and may lose it from the index, where
        more of them run at once than it has cores.
        """
        by_partition: dict[tuple[int, int], list[Write]] = defaultdict(list)
        for decision in decisions:
            bucket_ms = decision.ts // BUCKET_MS * BUCKET_MS
            by_partition[decision.partition, bucket_ms].append(self._write(decision, bucket_ms))
        consistency = self._keyspace.consistency
        self._writes.put([w for some in by_partition.values() for w in batches(some, consistency, alone=True)])

    def _write(self, decision: Decision, bucket_ms: int) -> Write:
        values: tuple[Any, ...] = msgspec.structs.astuple(decision)
        vector = _vector(decision.observation)
        return Write(self._put.bind((bucket_ms, vector, *values, decision.ts * 1000)), len(decision.obs))

    def similar(self, task: str, obs: NDArray[np.float32], count: int) -> list[Decision]:
        """Return the task's decisions nearest to float32[D], nearest first (approximately, as the index finds them)."""
        rows = self._keyspace.rows(self._similar.bind((task, _vector(obs), _CANDIDATES * count)))
        found = [Decision(*row) for row in rows]
        return sorted(found, key=lambda one: _distance(one.observation, obs))[:count]


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(one - other)) if len(one) == len(other) else float("inf")


def _vector(obs: NDArray[np.float32]) -> list[float]:
    """Return the observation in 64 numbers: filled up with zeros, or projected, which keeps distances nearly."""
    width = len(obs)
    if width > VECTOR:
        obs = obs @ _projection(width)
    found: list[float] = np.pad(obs, (0, VECTOR - len(obs))).tolist()
    return found


@lru_cache(maxsize=8)
def _projection(width: int) -> NDArray[np.float32]:
    """Return float32[D, 64], always the same (Johnson & Lindenstrauss 1984)."""
    normal = np.random.default_rng(width).normal(size=(width, VECTOR))
    projection: NDArray[np.float32] = (normal / np.sqrt(VECTOR)).astype(np.float32)
    return projection
