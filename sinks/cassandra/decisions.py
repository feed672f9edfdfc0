"""Sampled decisions on Cassandra, found by similarity through a vector index: the answer is approximate."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from cassandra import ConsistencyLevel
from numpy.typing import NDArray

from headrace.schemas.decisions import DecisionBatch, DecisionKey, Neighbours, neighbours, pack
from headrace.sinks.cassandra.keyspace import Keyspace, hidden
from headrace.sinks.cassandra.writes import Write, Writes
from headrace.sinks.cassandra.writes import batches as bundled

VECTOR: Final = 64
"""The width of the vectors in the index. Narrower ones are filled up with zeros: their distances stay."""
BUCKET_MS: Final = 600_000
"""How much event time a partition holds: at 100,000 transitions/s of one of the log's partitions about 100 MB."""

_VECTOR_BYTES: Final = 4 * VECTOR
_CANDIDATES: Final = 4
"""So many times the decisions asked for are looked at: copies are dropped, and wide vectors are sketched."""
_KEY: Final = 'task, partition, "offset", ts, agent_id, episode_id, step'
_PUT: Final = (
    f"INSERT INTO decisions (vector, bucket_ms, {_KEY}, data) "  # noqa: S608  # constants alone
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PLACE: Final = (
    'bucket_ms = ? AND task = ? AND partition = ? AND "offset" = ? AND ts = ? AND agent_id = ? AND episode_id = ? '
    "AND step = ?"
)
_GET: Final = f"SELECT data FROM decisions WHERE {_PLACE}"  # noqa: S608  # constants alone
_MARKS: Final = f"SELECT {_KEY}, writetime(data) FROM decisions WHERE task = ?"  # noqa: S608
_REMOVE: Final = f"DELETE FROM decisions USING TIMESTAMP ? WHERE {_PLACE}"  # noqa: S608
_SIMILAR: Final = f"SELECT {_KEY}, data FROM decisions WHERE task = ? ORDER BY vector ANN OF ? LIMIT ?"  # noqa: S608


class CassandraDecisions:
    """The port `Decisions` of a `CassandraIndex`: writes go with the index's own."""

    def __init__(self, keyspace: Keyspace, writes: Writes) -> None:
        self._keyspace = keyspace
        self._writes = writes
        self._put, self._replace = keyspace.prepare(f"{_PUT} USING TIMESTAMP ?"), keyspace.prepare(_PUT)
        self._get, self._marks, self._remove = (
            keyspace.prepare(_GET),
            keyspace.prepare(_MARKS),
            keyspace.prepare(_REMOVE),
        )
        # Cassandra finds the nearest with one replica's answers alone.
        self._similar = keyspace.prepare(_SIMILAR, consistency=ConsistencyLevel.LOCAL_ONE)

    def put(self, batches: Sequence[DecisionBatch]) -> None:
        """Begin to write the decisions; the same again changes nothing.

        One batch at a time: Cassandra 5.0 fails a write into a vector index, and may lose it from the index, where
        more of them run at once than it has cores.
        """
        by_partition: dict[tuple[int, int], list[Write]] = defaultdict(list)
        for batch in batches:
            vectors = sketch(batch.vectors).astype(">f4").tobytes()
            for i, (key, data) in enumerate(zip(batch.keys(), pack(batch), strict=True)):
                bucket_ms = key[3] // BUCKET_MS * BUCKET_MS
                statement = self._put.bind((None, bucket_ms, *key, data, key[3] * 1000))
                # The driver would take as long for a vector's numbers, one by one, as for all the rest.
                statement.values[0] = vectors[i * _VECTOR_BYTES : (i + 1) * _VECTOR_BYTES]
                by_partition[batch.partition, bucket_ms].append(Write(statement, len(data) + _VECTOR_BYTES))
        self._send(by_partition)

    def _send(self, by_partition: Mapping[tuple[int, int], list[Write]]) -> None:
        consistency = self._keyspace.consistency
        self._writes.put([w for some in by_partition.values() for w in bundled(some, consistency, alone=True)])

    def repair(self, batches: Sequence[DecisionBatch]) -> int:
        """Write over what lies over decisions, such as a deletion, with the clock's time as timestamp."""
        wanted = {
            key: (data, vector)
            for batch in batches
            for key, data, vector in zip(batch.keys(), pack(batch), sketch(batch.vectors).tolist(), strict=True)
        }
        differing = self._differing(wanted)
        by_partition: dict[tuple[int, int], list[Write]] = defaultdict(list)
        for key in differing:
            (data, vector), bucket_ms = wanted[key], key[3] // BUCKET_MS * BUCKET_MS
            write = Write(self._replace.bind((vector, bucket_ms, *key, data)), len(data) + _VECTOR_BYTES)
            by_partition[key[1], bucket_ms].append(write)
        self._send(by_partition)
        self._writes.flush()
        if lost := self._differing({key: wanted[key] for key in differing}):
            raise hidden(self._keyspace.target, [f"decision {key}" for key in lost])
        return len(differing)

    def _differing(self, wanted: Mapping[DecisionKey, tuple[bytes, object]]) -> list[DecisionKey]:
        asked = (self._get.bind((key[3] // BUCKET_MS * BUCKET_MS, *key)) for key in wanted)
        found = self._keyspace.ask(asked)
        pairs = zip(wanted.items(), found, strict=True)
        return [key for (key, (data, _)), rows in pairs if [tuple(row) for row in rows] != [(data,)]]

    def forget(self, task: str, end_ms: int, *, remove: bool) -> int:
        """Count a task's decisions before a time; begin to remove them, each as of its own timestamp."""
        count = 0
        for *key, timestamp in self._keyspace.stream([self._marks.bind((task,))], 1):
            if key[3] < end_ms:
                count += 1
                if remove:
                    statement = self._remove.bind((timestamp, key[3] // BUCKET_MS * BUCKET_MS, *key))
                    self._writes.put([Write(statement, 0, alone=True)])
        return count

    def similar(self, task: str, vector: NDArray[np.float32], limit: int) -> Neighbours | None:
        """Return at most `limit` of a task's decisions, the nearest first, as the index finds them."""
        wanted = sketch(vector[np.newaxis])[0].tolist()
        rows: list[Any] = self._keyspace.rows(self._similar.bind((task, wanted, _CANDIDATES * limit)))
        return neighbours([tuple(row[:7]) for row in rows], [row[7] for row in rows], vector, limit)


def sketch(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32[N, 64] of float32[N, D]: filled up with zeros, or sketched where D is greater.

    A sketch adds up features under random signs, always the same, and keeps distances nearly (Charikar, Chen &
    Farach-Colton 2002; Weinberger et al. 2009). It adds in a fixed order, so that every machine gives the same.
    """
    count, width = vectors.shape
    blocks = -(-width // VECTOR)
    padded = np.zeros((count, blocks * VECTOR))
    padded[:, :width] = vectors
    if blocks > 1:
        order = np.arange(blocks * VECTOR, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        padded *= np.where(order >> np.uint64(63), 1.0, -1.0)
        padded = padded[:, np.argsort(order << np.uint64(1), kind="stable")]
    out = np.zeros((count, VECTOR))
    for block in range(blocks):
        out += padded[:, block * VECTOR : (block + 1) * VECTOR]
    return out.astype(np.float32)
