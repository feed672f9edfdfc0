"""The index on Cassandra: chunks and windows by key and by range, many writes and reads under way at a time.

A partition of the tables is a (task, group) for ten minutes of event time. A small catalog (tasks, groups, buckets)
says which partitions there are, so that a range in key order is read partition by partition.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec
from cassandra import ConsistencyLevel

from headrace.schemas.chunk import ChunkRow
from headrace.schemas.errors import StorageError
from headrace.schemas.ports import Backend, Forgotten
from headrace.schemas.records import ChunkReference, Layout, WindowKey, WindowRow
from headrace.sinks.cassandra.decisions import CassandraDecisions
from headrace.sinks.cassandra.keyspace import Keyspace, hidden
from headrace.sinks.cassandra.writes import Write, Writes, batches
from headrace.sinks.index_rows import chunk_row, read_layout, window_row

BUCKET_MS: Final = 600_000
"""How much event time a partition holds: at 4,000 transitions/s of one group about 100 MB."""
MAX_ROW_BYTES: Final = 15 << 20
"""Cassandra refuses mutations above half a commit-log segment: 16 MiB by default."""

_AHEAD: Final = 8
_AHEAD_BARE: Final = 16
_DIRECT_BUCKETS: Final = 8
"""A range of one group that spans no more buckets is read without a look into the catalog."""
_ENTERED_S: Final = 43_200.0
_ENTERED_MOST: Final = 100_000

_PARTITION: Final = 'task = ? AND "group" = ? AND bucket_ms = ?'
_RANGE: Final = "start_ms >= ? AND start_ms < ?"
_CHUNK_PLACE: Final = "start_ms = ? AND partition = ? AND segment = ? AND part = ?"
_CHUNK: Final = 'SELECT task, "group", start_ms, partition, segment, part, rows, received, checksum, stats'
_WINDOW: Final = 'SELECT task, "group", start_ms, partition, writetime(summary), summary'
_CHUNK_MARK: Final = 'SELECT task, "group", start_ms, partition, segment, part, writetime(checksum)'
_WINDOW_MARK: Final = 'SELECT task, "group", start_ms, partition, writetime(summary)'
_FORGET: Final = "DELETE FROM {} USING TIMESTAMP ?"
_PUT_CHUNK: Final = (
    'INSERT INTO chunks (task, "group", bucket_ms, start_ms, partition, segment, part, rows, received, checksum, '
    "stats, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_WINDOW: Final = (
    'INSERT INTO windows (task, "group", bucket_ms, start_ms, partition, summary) VALUES (?, ?, ?, ?, ?, ?)'
)
_STATEMENTS: Final = {
    "put_chunk": f"{_PUT_CHUNK} USING TIMESTAMP ?",
    "put_window": f"{_PUT_WINDOW} USING TIMESTAMP ?",
    "replace_chunk": _PUT_CHUNK,
    "replace_window": _PUT_WINDOW,
    "put_task": "INSERT INTO tasks (one, task) VALUES (0, ?)",
    "put_group": 'INSERT INTO groups (task, "group", partition) VALUES (?, ?, ?)',
    "put_bucket": "INSERT INTO buckets (task, bucket_ms) VALUES (?, ?)",
    "get_chunk": f"{_CHUNK}, payload FROM chunks WHERE {_PARTITION} AND {_CHUNK_PLACE}",
    "scan": f"{_CHUNK}, payload FROM chunks WHERE {_PARTITION} AND {_RANGE}",
    "scan_bare": f"{_CHUNK} FROM chunks WHERE {_PARTITION} AND {_RANGE}",
    "windows": f"{_WINDOW} FROM windows WHERE {_PARTITION} AND {_RANGE}",
    "window": f"{_WINDOW} FROM windows WHERE {_PARTITION} AND start_ms = ? AND partition = ?",
    "chunk_marks": f"{_CHUNK_MARK} FROM chunks WHERE {_PARTITION} AND {_RANGE}",
    "window_marks": f"{_WINDOW_MARK} FROM windows WHERE {_PARTITION} AND {_RANGE}",
    "forget_chunk": f"{_FORGET.format('chunks')} WHERE {_PARTITION} AND {_CHUNK_PLACE}",
    "forget_window": f"{_FORGET.format('windows')} WHERE {_PARTITION} AND start_ms = ? AND partition = ?",
    "tasks": "SELECT task FROM tasks WHERE one = 0",
    "groups": 'SELECT "group", partition FROM groups WHERE task = ?',
    "buckets": "SELECT bucket_ms FROM buckets WHERE task = ? AND bucket_ms >= ? AND bucket_ms <= ?",
    "layout": "SELECT value FROM meta WHERE name = 'layout'",
    "put_layout": "INSERT INTO meta (name, value) VALUES ('layout', ?) IF NOT EXISTS",
}
_CONSISTENCIES: Final = {"layout": ConsistencyLevel.LOCAL_SERIAL}
_PAGE_ROWS: Final = {"scan": 32, "scan_bare": 256, "windows": 32}
_Entry = tuple[Any, ...]
"""A row of the catalog: the statement that writes it, and its values."""
_Range = tuple[str, int, int, int, int]
"""(task, group, bucket_ms, start_ms, end_ms): a range of one partition."""
_NEVER: Final = float("-inf")
_EARLIEST: Final = -(1 << 62)
_LATEST: Final = 1 << 62


class CassandraIndex(Backend):
    """The port `Index`, used from one thread at a time. Reads see what was flushed, by this process or another."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._writes = Writes(keyspace)
        self._statements = {
            name: keyspace.prepare(cql, _PAGE_ROWS.get(name), _CONSISTENCIES.get(name))
            for name, cql in _STATEMENTS.items()
        }
        self._entered: dict[_Entry, float] = {}

    @cached_property
    def decisions(self) -> CassandraDecisions:
        return CassandraDecisions(self._keyspace, self._writes)

    def counters(self) -> Mapping[tuple[str, ...], float]:
        return {("waiting_bytes",): self._writes.kept_bytes, ("retries",): self._writes.retries}

    def layout(self, wanted: Layout | None = None) -> Layout | None:
        if wanted is not None and self._layout() is None:
            text = msgspec.json.encode(wanted).decode()
            self._keyspace.rows(self._statements["put_layout"].bind((text,)))
        return self._layout()

    def _layout(self) -> Layout | None:
        return read_layout(self._keyspace.rows(self._statements["layout"].bind(())), self._keyspace.target)

    def put(self, chunks: Sequence[ChunkRow], windows: Sequence[WindowRow]) -> None:
        """Begin to write the rows; they are durable after `flush`. What has failed is kept for it."""
        by_partition: dict[tuple[str, int, int], list[Write]] = defaultdict(list)
        for row in chunks:
            by_partition[_partition(row.key)].append(self._put_chunk(row))
        for window in windows:
            by_partition[_partition(window.key)].append(self._put_window(window))
        new = self._new_places([*(row.key for row in chunks), *(row.key for row in windows)])
        writes = [write for some in by_partition.values() for write in batches(some, self._keyspace.consistency)]
        catalog = [Write(self._statements[name].bind(values), 0) for name, *values in new]
        self._writes.put([*writes, *catalog])
        self._remember(new)

    def _put_chunk(self, row: ChunkRow) -> Write:
        size = _bounded(len(row.payload) + len(row.stats), "chunk", row.key)
        return Write(self._chunk("put_chunk", row, row.write_time), size)

    def _chunk(self, name: str, row: ChunkRow, *write_time: int) -> Any:
        k = row.key
        counts = (row.rows, row.received, row.checksum)
        values = (*_partition(k), k.start_ms, k.partition, k.segment, k.part, *counts, row.stats, row.payload)
        return self._statements[name].bind((*values, *write_time))

    def _put_window(self, row: WindowRow) -> Write:
        size = _bounded(len(row.summary), "window", row.key)
        return Write(self._window("put_window", row, row.write_time), size)

    def _window(self, name: str, row: WindowRow, *write_time: int) -> Any:
        k = row.key
        return self._statements[name].bind((*_partition(k), k.start_ms, k.partition, row.summary, *write_time))

    def _new_places(self, keys: Iterable[WindowKey]) -> list[_Entry]:
        """Return the catalog's rows that this process has not written lately, each once."""
        places: dict[_Entry, None] = {}
        for key in keys:
            places["put_bucket", key.task, _bucket(key.start_ms)] = None
            places["put_group", key.task, key.group, key.partition] = None
        stale_s = time.monotonic() - _ENTERED_S
        new = [place for place in places if self._entered.get(place, _NEVER) < stale_s]
        return [*new, *{("put_task", task) for _, task, *_ in new}]

    def _remember(self, places: Iterable[_Entry]) -> None:
        if len(self._entered) > _ENTERED_MOST:
            self._entered.clear()
        self._entered.update(dict.fromkeys(places, time.monotonic()))

    def flush(self) -> None:
        self._writes.flush()

    def replace(self, chunks: Sequence[ChunkRow], windows: Sequence[WindowRow]) -> None:
        """Write rows over what lies over them, such as a deletion: with the clock's time as timestamp.

        A row that grows after that needs to be repaired again: `put` gives it its own timestamp.
        """
        writes = [Write(self._chunk("replace_chunk", row), len(row.payload) + len(row.stats)) for row in chunks]
        writes += [Write(self._window("replace_window", row), len(row.summary)) for row in windows]
        self._writes.put(writes)
        self._writes.flush()
        held = self.chunks([row.reference for row in chunks])
        lost = [f"chunk {row.reference}" for row, found in zip(chunks, held, strict=True) if not _same(row, found)]
        lost += [f"window {row.key}" for row in windows if self.window(row.key) != row]
        if lost:
            raise hidden(self._keyspace.target, lost)

    def chunks(self, references: Sequence[ChunkReference]) -> list[ChunkRow | None]:
        get = self._statements["get_chunk"]
        keys = ((*_partition(r), r.start_ms, r.partition, r.segment, r.part) for r in references)
        found = self._keyspace.ask(get.bind(key) for key in keys)
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
        select, ahead = ("scan", _AHEAD) if payload else ("scan_bare", _AHEAD_BARE)
        partitions = self._partitions(task, group, partition, start_ms, end_ms)
        for values in self._range(select, partitions, ahead):
            if partition is None or values[3] == partition:
                yield chunk_row(values if payload else (*values, b""))

    def windows(
        self, task: str | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> Iterator[WindowRow]:
        partitions = self._partitions(task, None, None, start_ms, end_ms)
        yield from map(_window_row, self._range("windows", partitions, _AHEAD))

    def _range(self, select: str, partitions: Iterable[_Range], ahead: int) -> Iterator[tuple[Any, ...]]:
        """Stream a table's rows in key order: partition by partition, the next ones under way."""
        statement = self._statements[select]
        return self._keyspace.stream((statement.bind(values) for values in partitions), ahead)

    def _partitions(
        self, task: str | None, group: int | None, partition: int | None, start_ms: int | None, end_ms: int | None
    ) -> Iterator[_Range]:
        """Walk the partitions of a range in key order; some may have no rows in it."""
        start, end = _EARLIEST if start_ms is None else start_ms, _LATEST if end_ms is None else end_ms
        for found in self._tasks() if task is None else [task]:
            buckets = self._buckets(found, start, end, known=group is not None)
            groups = self._groups(found, group, partition) if buckets else ()
            yield from ((found, one, bucket_ms, start, end) for one in groups for bucket_ms in buckets)

    def _buckets(self, task: str, start_ms: int, end_ms: int, *, known: bool) -> Sequence[int]:
        """Return a task's buckets in a range. known: whether its group is known, so that a few need no look-up."""
        if start_ms >= end_ms:
            return ()
        first, last = _bucket(start_ms), _bucket(end_ms - 1)
        if known and last - first < _DIRECT_BUCKETS * BUCKET_MS:
            return range(first, last + 1, BUCKET_MS)
        return [bucket_ms for (bucket_ms,) in self._all("buckets", task, first, last)]

    def _groups(self, task: str, group: int | None, partition: int | None) -> Sequence[int]:
        if group is not None:
            return (group,)
        rows = self._all("groups", task)
        return tuple(dict.fromkeys(found for found, place in rows if partition in {None, place}))

    def _tasks(self) -> list[str]:
        return [task for (task,) in self._all("tasks")]

    def _all(self, select: str, *values: object) -> Iterator[tuple[Any, ...]]:
        return self._keyspace.stream([self._statements[select].bind(values)], 1)

    def window(self, key: WindowKey) -> WindowRow | None:
        statement = self._statements["window"].bind((*_partition(key), key.start_ms, key.partition))
        rows = self._keyspace.rows(statement)
        return _window_row(rows[0]) if rows else None

    def forget(self, task: str, end_ms: int, *, remove: bool) -> Forgotten:
        """Count rows, and remove them, each as of its own timestamp: what grows after that is seen.

        A row that was repaired has the clock's time: what grows there needs to be repaired again, as by `replace`.
        """
        chunks = self._forget("chunk", task, end_ms, remove=remove)
        windows = self._forget("window", task, end_ms, remove=remove)
        decisions = self.decisions.forget(task, end_ms, remove=remove)
        self._writes.flush()
        return Forgotten(chunks, windows, decisions)

    def _forget(self, kind: str, task: str, end_ms: int, *, remove: bool) -> int:
        """Count rows of one kind by their marks (a key without its bucket, a timestamp); begin to remove them."""
        count = 0
        partitions = self._partitions(task, None, None, None, end_ms)
        for _, group, start_ms, *place, timestamp in self._range(f"{kind}_marks", partitions, _AHEAD):
            count += 1
            if remove:
                values = (timestamp, task, group, _bucket(start_ms), start_ms, *place)
                self._writes.put([Write(self._statements[f"forget_{kind}"].bind(values), 0)])
        return count

    def about(self) -> str:
        return self._keyspace.about()

    def close(self) -> None:
        """Release the connections; what was put and not flushed is dropped."""
        self._keyspace.close()


class _Counts(msgspec.Struct):
    """Of a window's summary."""

    rows: int
    duplicates: int


def _window_row(values: Sequence[Any]) -> WindowRow:
    """Return a window's row. A repaired one has the clock's time as timestamp; its write time is in its summary."""
    *key, timestamp, summary = values
    try:
        counts = msgspec.json.decode(summary, type=_Counts)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return window_row(values)
    own = key[2] * 1000 + counts.rows + counts.duplicates
    return window_row((*key, min(timestamp, own), summary))


def _same(row: ChunkRow, found: ChunkRow | None) -> bool:
    names = ("rows", "received", "checksum", "stats", "payload")
    return found is not None and all(getattr(row, name) == getattr(found, name) for name in names)


def _bucket(start_ms: int) -> int:
    return start_ms // BUCKET_MS * BUCKET_MS


def _partition(key: WindowKey) -> tuple[str, int, int]:
    return key.task, key.group, _bucket(key.start_ms)


def _bounded(size: int, name: str, key: WindowKey) -> int:
    if size > MAX_ROW_BYTES:
        raise StorageError(
            f"{name} {key}: it has {size} bytes, Cassandra takes {MAX_ROW_BYTES} in one row: give its task more groups "
            "or a shorter window"
        )
    return size
