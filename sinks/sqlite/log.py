"""The log on SQLite: topics, partitions, consumer groups and transactions in one file, no server."""

import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from headrace.schemas.errors import CommitConflictError, SettingsError, UnknownTopicError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import (
    Adapter,
    Assigned,
    Backend,
    Clock,
    Commit,
    EndOfLog,
    Event,
    Headers,
    MessageBatch,
    Record,
    Retention,
    Revoked,
    TopicInfo,
)
from headrace.sinks.sqlite.blocks import blocks, decode, overwrite
from headrace.sinks.sqlite.database import Database
from headrace.sinks.sqlite.retention import SCHEMA, Trimmer, described, write

MAX_PARTITIONS: Final = 1 << 13
MAX_TOPICS: Final = 1 << 10
_SHORTEST_WAIT_S: Final = 0.001
_LONGEST_WAIT_S: Final = 0.02
_OFFSET_BITS: Final = 40
_PARTITION_BITS: Final = 13

# Records lie in blocks, those of one send and partition together: SQLite's cost is by the row it writes, so a
# block of 512 is written 3 times faster than 512 rows and read 10 times faster. blocks.id packs (topic,
# partition, offset of the first record) into the rowid: one B-tree, appended to and read in order.
# partitions.next: the offset of the next record. commits.revision: what compare-and-set compares.
_SCHEMA: Final = f"""{SCHEMA};
CREATE TABLE IF NOT EXISTS topics(
    number INTEGER PRIMARY KEY, topic TEXT UNIQUE, identity TEXT NOT NULL, partitions INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS partitions(
    id INTEGER PRIMARY KEY, begin INTEGER NOT NULL, next INTEGER NOT NULL, append_ts INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS blocks(
    id INTEGER PRIMARY KEY, append_ts INTEGER NOT NULL, records BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS commits(
    topic INTEGER, "group" TEXT, partition INTEGER, revision INTEGER NOT NULL, offset INTEGER NOT NULL,
    metadata TEXT NOT NULL, PRIMARY KEY (topic, "group", partition)
) WITHOUT ROWID
"""
_READ: Final = """
SELECT id, append_ts, records FROM blocks
WHERE id >= (SELECT max(id) FROM blocks WHERE id BETWEEN ? AND ?) AND id < ? ORDER BY id
"""
_COMMITS: Final = 'SELECT partition, revision, offset, metadata FROM commits WHERE topic = ? AND "group" = ?'
_MOVE: Final = """
INSERT INTO commits VALUES (?1, ?2, ?3, 1, ?4, ?5)
ON CONFLICT DO UPDATE SET revision = revision + 1, offset = excluded.offset, metadata = excluded.metadata
WHERE revision = ?6
"""
_PARTITIONS: Final = "SELECT begin, next FROM partitions WHERE id >= ? AND id < ? ORDER BY id"
_LAST: Final = "SELECT next, append_ts FROM partitions WHERE id = ?"
_GROW: Final = "UPDATE partitions SET next = ?, append_ts = ? WHERE id = ?"

_partition_of_key = lru_cache(maxsize=1 << 16)(partition_of)


class _Topic(NamedTuple):
    number: int
    name: str
    identity: str
    partitions: int

    def first_id(self, partition: int) -> int:
        return ((self.number << _PARTITION_BITS) | partition) << _OFFSET_BITS

    def place(self, record: Record) -> int:
        """Return a record's partition: the one it names, else its key's, else its value's."""
        if record.partition is not None:
            return self.checked(record.partition)
        if record.key is not None:
            return _partition_of_key(record.key, self.partitions)
        return partition_of(record.value or b"", self.partitions)

    def checked(self, partition: int) -> int:
        if 0 <= partition < self.partitions:
            return partition
        raise SettingsError(f"topic {self.name} has no partition {partition}, only 0 to {self.partitions - 1}")


class SqliteLog(Backend):
    """The port `Log`: one connection writes, another reads, each from any thread.

    clock: gives the append time in ms; within a partition the append time never runs backwards.
    """

    def __init__(self, path: str | Path, clock: Clock) -> None:
        self._clock = clock
        self._writer = Database(path, _SCHEMA)
        self._reader = Database(path, _SCHEMA)
        self._topics: dict[str, _Topic] = {}
        self._trimmer = Trimmer(1 << _OFFSET_BITS, _PARTITION_BITS)

    def create(self, topic: str, partitions: int) -> None:
        if not 0 < partitions <= MAX_PARTITIONS:
            raise SettingsError(f"topic {topic}: {partitions} partitions; 1 to {MAX_PARTITIONS} are allowed")
        with self._writer.transaction(f"create topic {topic}") as connection:
            known = connection.execute("SELECT partitions FROM topics WHERE topic = ?", (topic,)).fetchone()
            if known is None:
                _insert_topic(connection, topic, partitions)
            elif known[0] != partitions:
                raise SettingsError(
                    f"topic {topic} exists with {known[0]} partitions, {partitions} were asked for: "
                    f"ask for {known[0]}, or use another log"
                )

    def topic(self, topic: str) -> TopicInfo:
        found = self._topic(topic)
        return TopicInfo(found.identity, found.partitions)

    def _topic(self, topic: str) -> _Topic:
        if topic not in self._topics:  # a topic never changes, so it is looked up once
            rows = self._reader.rows("SELECT number, topic, identity, partitions FROM topics WHERE topic = ?", (topic,))
            if not rows:
                raise UnknownTopicError(f"topic {topic} is not in {self._reader.path}: create it with `headrace init`")
            self._topics[topic] = _Topic(*rows[0])
        return self._topics[topic]

    def faults(self, topics: Sequence[str]) -> dict[str, str]:
        """Return none: a topic has no settings here; raises UnknownTopicError."""
        for topic in topics:
            self._topic(topic)
        return {}

    def retain(self, topic: str, retention: Retention) -> None:
        with self._writer.transaction("write retention") as connection:
            write(connection, self._topic(topic).number, retention)

    def about(self) -> str:
        return described(self._reader)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        found = self._topic(topic)
        first = found.first_id(found.checked(partition))
        ((begin, end),) = self._reader.rows("SELECT begin, next FROM partitions WHERE id = ?", (first,))
        return begin, end

    def send(self, records: Sequence[Record]) -> None:
        if not records:
            return
        placed = self._placed(records)
        with self._writer.transaction("send") as connection:
            self._append(connection, placed)

    def _placed(self, records: Iterable[Record]) -> dict[int, list[Record]]:
        """Group records, in order, by the id of their partition's first record."""
        placed: dict[int, list[Record]] = {}
        for record in records:
            topic = self._topics.get(record.topic) or self._topic(record.topic)
            placed.setdefault(topic.first_id(topic.place(record)), []).append(record)
        return placed

    def _append(self, connection: sqlite3.Connection, placed: Mapping[int, list[Record]]) -> None:
        now = self._clock()
        for first, records in placed.items():
            begin, before = connection.execute(_LAST, (first,)).fetchone()
            append_ts = max(before, now)
            connection.executemany("INSERT INTO blocks VALUES (?, ?, ?)", blocks(records, first + begin, append_ts))
            connection.execute(_GROW, (begin + len(records), append_ts, first))
        self._trimmer.trim(connection, now)

    def overwrite(self, topic: str, partition: int, records: Mapping[int, Record]) -> str:
        found = self._topic(topic)
        with self._writer.transaction(f"overwrite messages of {topic}") as connection:
            overwrite(connection, found.first_id(found.checked(partition)), records)
        return self._writer.wipe()

    def read(self, topic: str, partition: int, offset: int, limit: int) -> MessageBatch:
        begin, end = self.bounds(topic, partition)
        offset = max(offset, begin)
        return _read(self._reader, self._topic(topic), partition, offset, max(0, min(limit, end - offset)))

    def committed(self, group: str, topic: str) -> dict[int, Commit]:
        rows = self._reader.rows(_COMMITS, (self._topic(topic).number, group))
        return {partition: Commit(offset, metadata) for partition, _, offset, metadata in rows}

    def groups(self) -> list[str]:
        return [group for (group,) in self._reader.rows('SELECT DISTINCT "group" FROM commits ORDER BY "group"')]

    def drop(self, group: str) -> None:
        with self._writer.transaction(f"drop group {group}") as connection:
            connection.execute('DELETE FROM commits WHERE "group" = ?', (group,))

    def subscribe(self, group: str, topic: str) -> "SqliteSubscription":
        """Join the group: every member has all partitions, and compare-and-set lets one of them win."""
        return SqliteSubscription(self, group, self._topic(topic), Database(self._reader.path, _SCHEMA))

    def move(
        self,
        group: str,
        topic: _Topic,
        seen: Mapping[int, int],
        commits: Mapping[int, Commit],
        outputs: Sequence[Record],
    ) -> None:
        """Move a group's commits that are still at the revisions seen, and append outputs: all or nothing."""
        placed = self._placed(outputs)
        with self._writer.transaction(f"commit of group {group}") as connection:
            for partition, commit in commits.items():
                values = (topic.number, group, partition, commit.offset, commit.metadata, seen[partition])
                if not connection.execute(_MOVE, values).rowcount:
                    current = {row[0]: row[2] for row in connection.execute(_COMMITS, values[:2])}
                    raise CommitConflictError(
                        f"group {group}, topic {topic.name}, partition {partition}: another member committed "
                        f"offset {current[partition]} meanwhile, so {commit.offset} is refused: it must join again"
                    )
            self._append(connection, placed)

    def close(self) -> None:
        self._writer.close()
        self._reader.close()


def _insert_topic(connection: sqlite3.Connection, topic: str, partitions: int) -> None:
    (number,) = connection.execute("SELECT count(*) FROM topics").fetchone()
    if number >= MAX_TOPICS:
        raise SettingsError(f"topic {topic}: the log holds {number} topics already, which is its limit")
    row = _Topic(number, topic, uuid.uuid4().hex, partitions)
    connection.execute("INSERT INTO topics VALUES (?, ?, ?, ?)", row)
    ids = [(row.first_id(partition),) for partition in range(partitions)]
    connection.executemany("INSERT INTO partitions VALUES (?, 0, 0, 0)", ids)


def _read(database: Database, topic: _Topic, partition: int, offset: int, limit: int) -> MessageBatch:
    """Read records offset to offset + limit; offset is not before the first one held."""
    first = topic.first_id(partition)
    rows = database.rows(_READ, (first, first + offset, first + offset + limit))
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    headers: list[Headers] = []
    sizes = []
    for _, _, data in rows:
        block = decode(data)
        sizes.append(len(block.values))
        keys += block.keys
        values += block.values
        headers += block.headers or [()] * len(block.values)
    skipped = offset - (rows[0][0] - first) if rows else 0
    wanted = slice(skipped, skipped + limit)
    append_ts = np.repeat(np.array([row[1] for row in rows], np.int64), sizes)[wanted]
    return MessageBatch(
        topic=topic.name,
        partition=partition,
        offsets=np.arange(offset, offset + len(append_ts), dtype=np.int64),
        append_ts=append_ts,
        keys=keys[wanted],
        values=values[wanted],
        headers=headers[wanted],
    )


class SqliteSubscription:
    """The port `Subscription`: a member with all partitions of a topic, and a connection of its own."""

    def __init__(self, log: SqliteLog, group: str, topic: _Topic, database: Database) -> None:
        self._log = log
        self._group = group
        self._topic = topic
        self._database = database
        self._position: dict[int, int] = {}
        self._bounds: dict[int, tuple[int, int]] = {}
        self._told_end: dict[int, int] = {}
        self._revision: dict[int, int] = {}
        self._turn = 0
        self._data_version: list[tuple[int]] = []
        self._quiet = False
        self._lost: list[int] = []  # to be told

    def poll(self, limit: int, timeout_s: float) -> list[Event]:
        """Return what happened: at most `limit` messages altogether; an empty list when time is up.

        The first poll (also after a refused commit) assigns all partitions. After that each goes on with the partition
        whose turn it is, and takes the next ones too while the limit allows, so that batches are long and none starves.
        """
        if not self._position:
            return self._assign()
        deadline = time.monotonic() + timeout_s
        wait_s = _SHORTEST_WAIT_S
        while True:
            events = self._events(limit)
            left_s = deadline - time.monotonic()
            if events or left_s <= 0:
                return events
            time.sleep(min(wait_s, left_s))
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    def _assign(self) -> list[Event]:
        commits = {row[0]: row[1:] for row in self._database.rows(_COMMITS, (self._topic.number, self._group))}
        events: list[Event] = [Revoked(partition) for partition in self._lost]
        for partition, (begin, end) in self._read_bounds().items():
            revision, offset, metadata = commits.get(partition, (0, begin, ""))
            commit = Commit(offset, metadata) if partition in commits else None
            self._revision[partition], self._position[partition] = revision, offset
            events.append(Assigned(partition, commit, begin, end))
        self._lost, self._told_end, self._quiet = [], {}, False
        return events

    def _read_bounds(self) -> dict[int, tuple[int, int]]:
        ids = (self._topic.first_id(0), self._topic.first_id(self._topic.partitions))
        return dict(enumerate(self._database.rows(_PARTITIONS, ids)))

    def _events(self, limit: int) -> list[Event]:
        version = self._database.rows("PRAGMA data_version")  # moves on when another connection commits
        if version != self._data_version:
            self._data_version = version
            self._bounds = self._read_bounds()
        elif self._quiet:
            return []
        events: list[Event] = []
        first_turn, count = self._turn, self._topic.partitions
        for partition in (i % count for i in range(first_turn, first_turn + count)):
            if limit > 0 and self._position[partition] < self._bounds[partition][1]:
                limit -= self._read(partition, limit, events)
            self._tell_end(partition, events)
        self._quiet = not events
        return events

    def _read(self, partition: int, limit: int, events: list[Event]) -> int:
        """Read on in a partition, and give the next one the turn; return the number of messages."""
        begin, end = self._bounds[partition]
        position = max(self._position[partition], begin)
        batch = _read(self._database, self._topic, partition, position, min(limit, end - position))
        self._turn = (partition + 1) % self._topic.partitions
        if len(batch):  # it is empty only where the log was cut off just now; the next poll sees that
            events.append(batch)
            self._position[partition] = batch.next_offset
        return len(batch)

    def _tell_end(self, partition: int, events: list[Event]) -> None:
        end = self._bounds[partition][1]
        if self._position[partition] >= end and self._told_end.get(partition) != end:
            self._told_end[partition] = end
            events.append(EndOfLog(partition, end))

    def seek(self, partition: int, offset: int) -> None:
        self._require(partition)
        self._position[partition] = offset
        self._told_end.pop(partition, None)
        self._quiet = False

    def commit(self, commits: Mapping[int, Commit], outputs: Sequence[Record] = ()) -> None:
        for partition in commits:
            self._require(partition)
        try:
            self._log.move(self._group, self._topic, self._revision, commits, outputs)
        except CommitConflictError:
            self._lost, self._position = [*self._position], {}
            raise
        self._revision.update({partition: self._revision[partition] + 1 for partition in commits})

    def _require(self, partition: int) -> None:
        if partition not in self._position:
            raise CommitConflictError(
                f"group {self._group}, topic {self._topic.name}: partition {partition} is not assigned to "
                "this member: poll until it is"
            )

    def close(self) -> None:
        self._database.close()


ADAPTER: Final = Adapter(lambda url, clock, _: SqliteLog(url.path, clock), local=True, made_by_init=True)
