"""A log and an index in memory, whose writes can be cut off between any two of them."""

import random
from collections import defaultdict

import numpy as np

from headrace.schemas.decisions import pack
from headrace.schemas.errors import CommitConflictError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import Assigned, Commit, EndOfLog, MessageBatch, Revoked, TopicInfo

MARK = None
"""Stands for a control record."""


class Crash(BaseException):
    """The process is gone."""


class Fate:
    """Decides at each write whether the process dies there."""

    def __init__(self, rng, chance):
        self.rng, self.chance = rng, chance

    def strike(self):
        if self.chance and self.rng.random() < self.chance:
            raise Crash


class MemoryLog:
    """The Log port; append time is given by `now_ms`."""

    def __init__(self, partitions=2):
        self.topics = {"transitions": partitions, "tasks": 1, "windows": 1, "transitions.rejected": 1}
        self.rows = defaultdict(list)
        self.commits = {}
        self.begins = defaultdict(int)
        self.now_ms = 0

    def topic(self, topic):
        return TopicInfo("model", self.topics[topic])

    def bounds(self, topic, partition):
        return self.begins[topic, partition], len(self.rows[topic, partition])

    def send(self, records):
        for r in records:
            partition = r.partition
            if partition is None:
                partition = partition_of(r.key or r.value or b"", self.topics[r.topic])
            self.rows[r.topic, partition].append((r.key, r.value, r.headers, self.now_ms))

    def read(self, topic, partition, offset, limit):
        """Read as Kafka does: offsets that a transaction's mark took hold no message."""
        rows = self.rows[topic, partition][offset : offset + limit]
        found = [(offset + i, *row) for i, row in enumerate(rows) if row is not MARK]
        offsets, keys, values, headers, times = (
            (list(c) for c in zip(*found, strict=True)) if found else ([], [], [], [], [])
        )
        return MessageBatch(
            topic, partition, np.array(offsets, np.int64), np.array(times, np.int64), keys, values, headers
        )

    def subscribe(self, group, topic):
        return MemorySubscription(self, group, topic)


class MemorySubscription:
    """The Subscription port. rejoins: whether it gives its partitions up after a conflict, and takes them anew.

    Then it also loses them now and then for no reason that its user knows of.
    """

    rejoins = False

    def __init__(self, log, group, topic, fate=None):
        self.log, self.group, self.topic = log, group, topic
        self.fate = fate or Fate(random.Random(0), 0)
        self.seen = {}
        self.places = {}
        self.stale = False

    def poll(self, limit, timeout_s):
        log = self.log
        if self.rejoins and self.seen and (self.stale or self.fate.rng.random() < 0.1):
            gone, self.seen, self.places, self.stale = self.seen, {}, {}, False
            return [Revoked(p) for p in gone]
        if not self.seen:
            events = []
            for p in range(log.topics[self.topic]):
                commit = log.commits.get((self.group, self.topic, p))
                begin, end = log.bounds(self.topic, p)
                self.seen[p] = commit
                self.places[p] = commit.offset if commit else begin
                events.append(Assigned(p, commit, begin, end))
            return events
        events = []
        for p, place in self.places.items():
            size = self.fate.rng.randint(1, limit)
            batch = log.read(self.topic, p, place, size)
            self.places[p] = min(place + size, log.bounds(self.topic, p)[1])
            if len(batch):
                events.append(batch)
            if self.places[p] == place or self.fate.rng.random() < 0.5:
                events.append(EndOfLog(p, self.places[p]))
        return events

    def seek(self, partition, offset):
        self.places[partition] = offset

    def commit(self, commits, outputs=()):
        self.fate.strike()
        for p in commits:
            if self.log.commits.get((self.group, self.topic, p)) != self.seen[p]:
                self.stale = True
                raise CommitConflictError(f"partition {p}")
        self.log.send(outputs)
        for p, commit in commits.items():
            assert isinstance(commit, Commit)
            self.log.commits[self.group, self.topic, p] = self.seen[p] = commit
        self.fate.strike()

    def close(self):
        pass


class MemoryIndex:
    """The Index port. Rows are written at `flush` or before, each on its own; a process may die before any."""

    def __init__(self):
        self.rows = {}
        self.window_rows = {}
        self.decision_rows = {}
        self._pending = []
        self.fate = Fate(random.Random(0), 0)
        self.decisions = MemoryDecisions(self)

    def connect(self, fate):
        """Return a process's own connection: what it has not written dies with it."""
        connection = MemoryIndex()
        connection.rows, connection.window_rows, connection.fate = self.rows, self.window_rows, fate
        connection.decision_rows = self.decision_rows
        return connection

    def put(self, chunks, windows):
        self._pending += [(self.rows, row) for row in chunks] + [(self.window_rows, row) for row in windows]
        if self.fate.rng.random() < 0.3:
            self._write()

    def flush(self):
        self._write()

    def _write(self):
        while self._pending:
            self.fate.strike()
            table, row = self._pending.pop(0)
            if table is self.decision_rows:
                key, packed = row
                assert table.setdefault(key, packed) == packed, f"two decisions of one key differ: {key}"
            else:
                self._upsert(table, row.key, row)
        self.fate.strike()

    @staticmethod
    def _upsert(table, key, row):
        old = table.get(key)
        if old is None or row.write_time > old.write_time:
            table[key] = row
        elif row.write_time == old.write_time:
            assert row == old or _content(row) == _content(old), f"two rows of one write time differ: {key}"

    def scan(self, task=None, start_ms=None, end_ms=None, partition=None, group=None, *, payload=True):
        for key in sorted(self.rows):
            if (
                (task is None or key.task == task)
                and (start_ms is None or key.start_ms >= start_ms)
                and (end_ms is None or key.start_ms < end_ms)
                and (partition is None or key.partition == partition)
                and (group is None or key.group == group)
            ):
                yield self.rows[key]


class MemoryDecisions:
    """What the port `Decisions` writes, with the index's rows."""

    def __init__(self, index):
        self.index = index

    def put(self, batches):
        rows = [pair for batch in batches for pair in zip(batch.keys(), pack(batch), strict=True)]
        self.index._pending += [(self.index.decision_rows, pair) for pair in rows]


def _content(row):
    return tuple(getattr(row, name) for name in ("rows", "received", "checksum", "payload", "stats"))


class NoCache:
    def get(self, references):
        return [None] * len(references)

    def put(self, entries):
        pass
