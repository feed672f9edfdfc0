"""Sampled decisions on SQLite, found by similarity: every one of the task is looked at, so the answer is exact."""

import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.decisions import DecisionBatch, DecisionKey, Neighbours, nearest, neighbours, pack
from headrace.sinks.sqlite.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS decisions(
    task TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, ts INTEGER NOT NULL,
    agent_id TEXT NOT NULL, episode_id TEXT NOT NULL, step INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (task, partition, "offset", ts, agent_id, episode_id, step)
)
"""
PUT: Final = "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"

_PAGE_ROWS: Final = 1024
_PLACE: Final = 'partition, "offset", ts, agent_id, episode_id, step'
_PAGE: Final = (
    f"SELECT task, {_PLACE}, data FROM decisions "  # noqa: S608  # constants alone
    f"WHERE task = ? AND ({_PLACE}) > (?, ?, ?, ?, ?, ?) ORDER BY {_PLACE} LIMIT ?"
)


class SqliteDecisions:
    """The port `Decisions` of a `SqliteIndex`, whose flush writes what waits here, under the same lock."""

    def __init__(self, reader: Database, lock: threading.Lock) -> None:
        self._reader = reader
        self._lock = lock
        self.waiting: list[tuple[Any, ...]] = []

    def put(self, batches: Sequence[DecisionBatch]) -> None:
        """Take the decisions; they are durable after the index's flush."""
        rows = [(*key, data) for batch in batches for key, data in zip(batch.keys(), pack(batch), strict=True)]
        with self._lock:
            self.waiting += rows

    def similar(self, task: str, vector: NDArray[np.float32], limit: int) -> Neighbours | None:
        """Return at most `limit` of a task's decisions, the nearest first; a page is held in memory at a time."""
        keys: list[DecisionKey] = []
        packed: list[bytes] = []
        for page in self._reader.pages(_PAGE, (task,), (-1, -1, -1, "", "", -1), (), _PAGE_ROWS):
            keys += [row[:7] for row in page]
            packed += [row[7] for row in page]
            places = nearest(keys, packed, vector, limit)
            keys, packed = [keys[place] for place in places], [packed[place] for place in places]
        return neighbours(keys, packed, vector, limit)
