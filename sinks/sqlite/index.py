"""The index on SQLite: chunks, window rows, sampled decisions and the layout in one file, no server."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from headrace.schemas.chunk import ChunkRow
from headrace.schemas.decisions import DecisionBatch, DecisionKey, Neighbours, nearest, neighbours, pack
from headrace.schemas.ports import Adapter, Backend, Forgotten
from headrace.schemas.records import ChunkReference, Layout, WindowKey, WindowRow
from headrace.sinks.index_rows import chunk_row, read_layout, window_row
from headrace.sinks.sqlite.database import Database

_BUFFER_BYTES: Final = 64 << 20
_PAGE_ROWS: Final = 64
_PAGE_ROWS_BARE: Final = 1024
_EARLIEST: Final = -(1 << 63)
_LATEST: Final = (1 << 63) - 1

# payload comes last, so that a scan without it never touches its overflow pages.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS decisions(
    task TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, ts INTEGER NOT NULL,
    agent_id TEXT NOT NULL, episode_id TEXT NOT NULL, step INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (task, partition, "offset", ts, agent_id, episode_id, step)
);
CREATE TABLE IF NOT EXISTS chunks(
    task TEXT NOT NULL, "group" INTEGER NOT NULL, start_ms INTEGER NOT NULL, partition INTEGER NOT NULL,
    segment INTEGER NOT NULL, part INTEGER NOT NULL, rows INTEGER NOT NULL, received INTEGER NOT NULL,
    write_time INTEGER NOT NULL, checksum INTEGER NOT NULL, stats BLOB NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (task, "group", start_ms, partition, segment, part)
);
CREATE TABLE IF NOT EXISTS windows(
    task TEXT NOT NULL, "group" INTEGER NOT NULL, start_ms INTEGER NOT NULL, partition INTEGER NOT NULL,
    write_time INTEGER NOT NULL, summary BLOB NOT NULL,
    PRIMARY KEY (task, "group", start_ms, partition)
);
CREATE TABLE IF NOT EXISTS layout(one INTEGER PRIMARY KEY, layout BLOB NOT NULL)
"""
_PUT_CHUNK: Final = """
INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET rows = excluded.rows, received = excluded.received, checksum = excluded.checksum,
    write_time = excluded.write_time, stats = excluded.stats, payload = excluded.payload
WHERE excluded.write_time > write_time
"""
_PUT_WINDOW: Final = """
INSERT INTO windows VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET summary = excluded.summary, write_time = excluded.write_time
WHERE excluded.write_time > write_time
"""
_PUT_DECISION: Final = """
INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET data = excluded.data WHERE excluded.data <> data
"""
_REPLACE_CHUNK: Final = "REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_REPLACE_WINDOW: Final = "REPLACE INTO windows VALUES (?, ?, ?, ?, ?, ?)"
_DECISION_PLACE: Final = 'partition, "offset", ts, agent_id, episode_id, step'
_DECISIONS: Final = (
    f"SELECT task, {_DECISION_PLACE}, data FROM decisions "  # noqa: S608  # constants alone
    f"WHERE task = ? AND ({_DECISION_PLACE}) > (?, ?, ?, ?, ?, ?) ORDER BY {_DECISION_PLACE} LIMIT ?"
)
_FORGOTTEN: Final = (
    "FROM chunks WHERE task = ? AND start_ms < ?",
    "FROM windows WHERE task = ? AND start_ms < ?",
    "FROM decisions WHERE task = ? AND ts < ?",
)
_KEY: Final = 'task, "group", start_ms, partition, segment, part'
_COLUMNS: Final = f"{_KEY}, rows, received, checksum, stats"
_GET_CHUNK: Final = (
    f"SELECT {_COLUMNS}, payload FROM chunks "  # noqa: S608  # constants alone
    f'WHERE task = ? AND "group" = ? AND start_ms = ? AND partition = ? AND segment = ? AND part = ?'
)
_SCAN: Final = """
FROM chunks WHERE task = ?1 AND "group" = ?2 AND (start_ms, partition, segment, part) > (?3, ?4, ?5, ?6)
AND start_ms < ?7 AND (?8 IS NULL OR partition = ?8)
ORDER BY start_ms, partition, segment, part LIMIT ?9
"""
_SCAN_ALL: Final = f"SELECT {_COLUMNS}, payload {_SCAN}"
_SCAN_BARE: Final = f"SELECT {_COLUMNS}, x'' {_SCAN}"
_NEXT_TASK: Final = {
    table: f"SELECT task FROM {table} WHERE task > ? ORDER BY task LIMIT 1"  # noqa: S608
    for table in ("chunks", "windows")
}
_NEXT_GROUP: Final = {
    table: f'SELECT "group" FROM {table} WHERE task = ? AND "group" > ? ORDER BY "group" LIMIT 1'  # noqa: S608
    for table in ("chunks", "windows")
}
_WINDOW_COLUMNS: Final = 'SELECT task, "group", start_ms, partition, write_time, summary FROM windows '
_GET_WINDOW: Final = f'{_WINDOW_COLUMNS} WHERE task = ? AND "group" = ? AND start_ms = ? AND partition = ?'
_SCAN_WINDOWS: Final = (
    f'{_WINDOW_COLUMNS} WHERE task = ? AND "group" = ? AND (start_ms, partition) > (?, ?) AND start_ms < ? '
    "ORDER BY start_ms, partition LIMIT ?"
)


class SqliteDecisions:
    """The port `Decisions` of a `SqliteIndex`, whose flush writes what waits here, under the same lock.

    Every decision of the task is looked at, so the answer is exact.
    """

    def __init__(self, reader: Database, lock: threading.Lock) -> None:
        self._reader = reader
        self._lock = lock
        self.waiting: list[tuple[Any, ...]] = []

    def put(self, batches: Sequence[DecisionBatch]) -> None:
        """Take the decisions; they are durable after the index's flush."""
        rows = [(*key, data) for batch in batches for key, data in zip(batch.keys(), pack(batch), strict=True)]
        with self._lock:
            self.waiting += rows

    def repair(self, batches: Sequence[DecisionBatch]) -> int:  # noqa: ARG002 there is nothing to do
        """Return 0: `put` has written over whatever differs."""
        return 0

    def similar(self, task: str, vector: NDArray[np.float32], limit: int) -> Neighbours | None:
        """Return at most `limit` of a task's decisions, the nearest first; a page is held in memory at a time."""
        keys: list[DecisionKey] = []
        packed: list[bytes] = []
        for page in self._reader.pages(_DECISIONS, (task,), (-1, -1, -1, "", "", -1), (), _PAGE_ROWS_BARE):
            keys += [row[:7] for row in page]
            packed += [row[7] for row in page]
            places = nearest(keys, packed, vector, limit)
            keys, packed = [keys[place] for place in places], [packed[place] for place in places]
        return neighbours(keys, packed, vector, limit)


class SqliteIndex(Backend):
    """The port `Index`: one connection writes, another reads, each from any thread.

    Reads see what was flushed, by this process or another.
    """

    def __init__(self, path: str | Path) -> None:
        self._writer = Database(path, _SCHEMA)
        self._reader = Database(path, _SCHEMA)
        self._lock = threading.Lock()
        self.decisions = SqliteDecisions(self._reader, self._lock)
        self._chunks: list[tuple[Any, ...]] = []
        self._windows: list[tuple[Any, ...]] = []
        self._buffered_bytes = 0

    def layout(self, wanted: Layout | None = None) -> Layout | None:
        if wanted is not None and self._layout() is None:
            with self._writer.transaction("write layout") as connection:
                connection.execute("INSERT OR IGNORE INTO layout VALUES (1, ?)", (msgspec.json.encode(wanted),))
        return self._layout()

    def _layout(self) -> Layout | None:
        return read_layout(self._reader.rows("SELECT layout FROM layout", doing="read layout"), self._reader.path)

    def put(self, chunks: Sequence[ChunkRow], windows: Sequence[WindowRow]) -> None:
        """Take the rows; durable after `flush`, or before: with 64 MiB gathered it flushes first, or takes nothing."""
        if self._buffered_bytes >= _BUFFER_BYTES:
            self.flush()
        with self._lock:
            self._chunks += map(_chunk_values, chunks)
            self._windows += map(_window_values, windows)
            self._buffered_bytes += sum(len(row.payload) + len(row.stats) for row in chunks)
            self._buffered_bytes += sum(len(row.summary) for row in windows)

    def flush(self) -> None:
        with self._lock:
            decisions = self.decisions.waiting
            if not self._chunks and not self._windows and not decisions:
                return
            with self._writer.transaction("flush") as connection:
                connection.executemany(_PUT_CHUNK, self._chunks)
                connection.executemany(_PUT_WINDOW, self._windows)
                connection.executemany(_PUT_DECISION, decisions)
            decisions.clear()
            self._chunks.clear()
            self._windows.clear()
            self._buffered_bytes = 0

    def replace(self, chunks: Sequence[ChunkRow], windows: Sequence[WindowRow]) -> None:
        """Write rows over damaged ones."""
        with self._writer.transaction("repair") as connection:
            connection.executemany(_REPLACE_CHUNK, map(_chunk_values, chunks))
            connection.executemany(_REPLACE_WINDOW, map(_window_values, windows))

    def chunks(self, references: Sequence[ChunkReference]) -> list[ChunkRow | None]:
        found = (self._reader.rows(_GET_CHUNK, astuple(r)[:6], "read chunks") for r in references)
        return [chunk_row(rows[0]) if rows else None for rows in found]

    def scan(
        self,
        task: str | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        partition: int | None = None,
        group: int | None = None,
        *,
        payload: bool = True,
    ) -> Iterator[ChunkRow]:
        sql, limit = (_SCAN_ALL, _PAGE_ROWS) if payload else (_SCAN_BARE, _PAGE_ROWS_BARE)
        start, end = _EARLIEST if start_ms is None else start_ms, _LATEST if end_ms is None else end_ms
        for found in self._groups("chunks", task, group):
            for page in self._reader.pages(sql, found, (start, -1, -1, -1), (end, partition), limit):
                yield from map(chunk_row, page)

    def windows(
        self, task: str | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> Iterator[WindowRow]:
        start, end = _EARLIEST if start_ms is None else start_ms, _LATEST if end_ms is None else end_ms
        for found in self._groups("windows", task, None):
            for page in self._reader.pages(_SCAN_WINDOWS, found, (start, -1), (end,), _PAGE_ROWS_BARE):
                yield from map(window_row, page)

    def _groups(self, table: str, task: str | None, group: int | None) -> Iterator[tuple[str, int]]:
        """Walk the (task, group) pairs in key order, each found by one seek in the primary key.

        So a range of windows is read from the primary key, and no further index has to be written.
        """
        for found_task in self._after(_NEXT_TASK[table], (), "") if task is None else (task,):
            groups = self._after(_NEXT_GROUP[table], (found_task,), -1) if group is None else (group,)
            for found_group in groups:
                yield found_task, found_group

    def _after(self, sql: str, within: tuple[Any, ...], value: Any) -> Iterator[Any]:
        """Walk a column's values in order, from one to the next greater."""
        while rows := self._reader.rows(sql, (*within, value), "scan"):
            value = rows[0][0]
            yield value

    def window(self, key: WindowKey) -> WindowRow | None:
        rows = self._reader.rows(_GET_WINDOW, astuple(key), "read window")
        return window_row(rows[0]) if rows else None

    def forget(self, task: str, end_ms: int, *, remove: bool) -> Forgotten:
        """Count rows, and remove them; what was there is wiped from the file's pages."""
        within = (task, end_ms)
        with self._writer.transaction("forget") as connection:
            chunks, windows, decisions = (
                connection.execute(f"SELECT count(*) {which}", within).fetchone()[0] for which in _FORGOTTEN
            )
            if remove:
                connection.execute("PRAGMA secure_delete = ON")
                for which in _FORGOTTEN:
                    connection.execute(f"DELETE {which}", within)
        return Forgotten(chunks, windows, decisions, self._writer.wipe() if remove else "")

    def close(self) -> None:
        """Release the connections; what was put and not flushed is dropped."""
        self._writer.close()
        self._reader.close()


def _chunk_values(row: ChunkRow) -> tuple[Any, ...]:
    return (*astuple(row.key), row.rows, row.received, row.write_time, row.checksum, row.stats, row.payload)


def _window_values(row: WindowRow) -> tuple[Any, ...]:
    return (*astuple(row.key), row.write_time, row.summary)


ADAPTER: Final = Adapter(lambda url, *_: SqliteIndex(url.path), local=True, made_by_init=True)
