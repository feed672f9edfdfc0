"""A log and an index in memory, whose writes can be cut off between any two of them."""

import random
from collections import Counter, defaultdict
from itertools import islice

import msgspec
import numpy as np

from headrace.schemas.decisions import pack
from headrace.schemas.errors import CommitConflictError, SettingsError, UnknownTopicError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import Assigned, Backend, EndOfLog, MessageBatch, Revoked, TopicInfo
from headrace.schemas.records import ChunkKey

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


class MemoryLog(Backend):
    """The Log port. Append time is given by `now_ms`, and an offset may be a transaction's mark, as Kafka's are."""

    def __init__(self, now_ms=0):
        self.topics = {}
        self.rows = defaultdict(list)
        self.commits = defaultdict(dict)  # by group and topic: partition → commit
        self.revisions = Counter()  # of a commit: how often it was made, for compare-and-set
        self.begins = defaultdict(int)
        self.now_ms = now_ms

    def create(self, topic, partitions):
        known = self.topics.setdefault(topic, TopicInfo(f"model {topic}", partitions))
        if known.partitions != partitions:
            raise SettingsError(f"topic {topic} exists with {known.partitions} partitions, not {partitions}")

    def topic(self, topic):
        if topic not in self.topics:
            raise UnknownTopicError(f"topic {topic} is unknown: create it with `headrace init`")
        return self.topics[topic]

    def faults(self, topics):
        return {}

    def retain(self, topic, retention):
        raise NotImplementedError

    def bounds(self, topic, partition):
        self.topic(topic)
        return self.begins[topic, partition], len(self.rows[topic, partition])

    def send(self, records):
        for place, record in [(self._place(record), record) for record in records]:
            self.rows[place].append((record.key, record.value, record.headers, self.now_ms))

    def _place(self, record):
        partitions, partition = self.topic(record.topic).partitions, record.partition
        if partition is None:
            partition = partition_of((record.value or b"") if record.key is None else record.key, partitions)
        return record.topic, partition

    def read(self, topic, partition, offset, limit):
        """Read as Kafka does: offsets that a transaction's mark took hold no message."""
        begin, _ = self.bounds(topic, partition)
        numbered = enumerate(self.rows[topic, partition])
        found = [*islice(((i, *row) for i, row in numbered if row is not MARK and i >= max(begin, offset)), limit)]
        offsets, keys, values, headers, times = map(list, zip(*found, strict=True)) if found else ([],) * 5
        return MessageBatch(
            topic, partition, np.array(offsets, np.int64), np.array(times, np.int64), keys, values, headers
        )

    def committed(self, group, topic):
        return dict(self.commits[group, topic])

    def groups(self):
        return sorted({group for (group, _), commits in self.commits.items() if commits})

    def drop(self, group):
        for key in [key for key in self.commits if key[0] == group]:
            del self.commits[key]

    def subscribe(self, group, topic):
        self.topic(topic)
        return MemorySubscription(self, group, topic)

    def close(self):
        pass


class MemorySubscription:
    """The Subscription port: a member with all partitions; compare-and-set lets one of several win.

    fate: where given, the process may die at a commit, batches are cut anywhere, ends are told again and before
    others have moved on, and Assigned may come a poll later than Revoked. loses: whether the member also loses its
    partitions now and then for no reason that its user knows of.
    """

    loses = False

    def __init__(self, log, group, topic):
        self.log, self.group, self.topic = log, group, topic
        self.fate = None
        self.seen = {}  # the revision of each partition's commit
        self.places = {}
        self.ended = {}
        self.revoked = []

    def poll(self, limit, timeout_s):
        if self.loses and self.seen and self._by_chance(0.1):
            self._lose()
        events, self.revoked = [Revoked(p) for p in self.revoked], []
        if events and self._by_chance(0.5):
            return events
        if not self.seen:
            return events + [self._assign(p) for p in range(self.log.topic(self.topic).partitions)]
        return [event for p in self.places for event in self._read(p, limit)]

    def _by_chance(self, chance):
        return self.fate is not None and self.fate.rng.random() < chance

    def _lose(self):
        self.revoked, self.seen, self.places, self.ended = [*self.seen], {}, {}, {}

    def _assign(self, p):
        commit = self.log.commits[self.group, self.topic].get(p)
        begin, end = self.log.bounds(self.topic, p)
        self.seen[p] = self.log.revisions[self.group, self.topic, p]
        self.places[p] = commit.offset if commit else begin
        return Assigned(p, commit, begin, end)

    def _read(self, p, limit):
        _, end = self.log.bounds(self.topic, p)
        size = self.fate.rng.randint(1, limit) if self.fate else limit
        batch = self.log.read(self.topic, p, self.places[p], size)
        if len(batch):
            yield batch
        self.places[p] = int(batch.offsets[-1]) + 1 if len(batch) == size else end
        if (self.places[p] == end and self.ended.get(p) != end) or self._by_chance(0.5):
            self.ended[p] = end
            yield EndOfLog(p, self.places[p])

    def seek(self, partition, offset):
        self._require(partition)
        self.places[partition] = offset
        self.ended.pop(partition, None)

    def commit(self, commits, outputs=()):
        self._strike()
        for p in commits:
            self._require(p)
            if self.log.revisions[self.group, self.topic, p] != self.seen[p]:
                self._lose()
                raise CommitConflictError(f"group {self.group}, partition {p}: another member committed meanwhile")
        self.log.send(outputs)
        self.log.commits[self.group, self.topic].update(commits)
        for p in commits:
            self.log.revisions[self.group, self.topic, p] += 1
            self.seen[p] += 1
        self._strike()

    def _require(self, partition):
        if partition not in self.seen:
            raise CommitConflictError(f"group {self.group}, topic {self.topic}: partition {partition} is not assigned")

    def _strike(self):
        if self.fate:
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

    def replace(self, chunks, windows):
        for table, rows in ((self.rows, chunks), (self.window_rows, windows)):
            for row in rows:
                self.fate.strike()
                table[row.key] = row

    def chunks(self, references):
        return [self.rows.get(ChunkKey(*msgspec.structs.astuple(reference)[:6])) for reference in references]

    def window(self, key):
        return self.window_rows.get(key)

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

    def repair(self, batches):
        for batch in batches:
            for key, data in zip(batch.keys(), pack(batch), strict=True):
                assert self.index.decision_rows[key] == data
        return 0


def _content(row):
    return tuple(getattr(row, name) for name in ("rows", "received", "checksum", "payload", "stats"))


class NoCache:
    def get(self, references):
        return [None] * len(references)

    def put(self, entries):
        pass
