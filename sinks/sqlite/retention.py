"""What the log on SQLite forgets by itself: a topic's oldest messages, by age and by size, as its appenders go on.

Freed pages are used again, so the file stays as large as it was at most.
"""

import logging
import sqlite3
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from headrace.schemas.ports import Retention
from headrace.sinks.sqlite.database import Database

logger = logging.getLogger(__name__)

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS retention(
    topic INTEGER PRIMARY KEY, age_ms INTEGER, size_bytes INTEGER, step INTEGER NOT NULL, committed INTEGER NOT NULL
)
"""
EVERY_S: Final = 10.0
"""How often an appender looks."""
SHARE: Final = 0.02
"""It takes no greater part of the time: the blocks of a topic are counted."""
_BLOCKS: Final = 512
_WARN_S: Final = 600.0

_KEPT: Final = "SELECT topics.topic, age_ms, size_bytes FROM retention JOIN topics ON number = retention.topic"
_RULES: Final = """
SELECT number, topics.topic, partitions, age_ms, size_bytes, step, committed
FROM retention JOIN topics ON number = retention.topic
"""
_SIZE: Final = "SELECT coalesce(sum(length(records)), 0) FROM blocks WHERE id >= ? AND id < ?"
_OLDEST: Final = "SELECT id, append_ts, length(records) FROM blocks WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
_PLACES: Final = "SELECT id, begin, next FROM partitions WHERE id >= ? AND id < ? ORDER BY id"
_FLOOR: Final = 'SELECT offset, "group" FROM commits WHERE topic = ? AND partition = ? ORDER BY offset LIMIT 1'
_DROP: Final = "DELETE FROM blocks WHERE id >= ?1 AND id < (SELECT max(id) FROM blocks WHERE id >= ?1 AND id <= ?2)"
_BEGIN: Final = "UPDATE partitions SET begin = ? WHERE id = ?"


def write(connection: sqlite3.Connection, topic: int, retention: Retention) -> None:
    """Write down how long a topic is kept, instead of what was said before."""
    connection.execute("DELETE FROM retention WHERE topic = ?", (topic,))
    if retention.age_ms is not None or retention.size_bytes is not None:
        values = (topic, retention.age_ms, retention.size_bytes, retention.step, retention.committed)
        connection.execute("INSERT INTO retention VALUES (?, ?, ?, ?, ?)", values)


def described(database: Database) -> str:
    """Say how large the file is, and what is kept of which topic."""
    kept = (f"{topic} kept {Retention(*limits)}" for topic, *limits in database.rows(_KEPT))
    return "; ".join([f"{database.path.stat().st_size / 1e6:.1f} MB", *kept])


class _Rule(NamedTuple):
    number: int
    topic: str
    partitions: int
    age_ms: int | None
    size_bytes: int | None
    step: int
    committed: bool


class _Old(NamedTuple):
    """A block that may go: its age, its partition's place, the offset after it, and its bytes."""

    append_ts: int
    place: int
    end: int
    size: int


class Trimmer:
    """Cuts topics off at their beginnings, within an appender's transaction. width: the ids of one partition."""

    def __init__(self, width: int, partition_bits: int) -> None:
        self._width = width
        self._partition_bits = partition_bits
        self._due_s = 0.0
        self._warned_s = float("-inf")

    def trim(self, connection: sqlite3.Connection, now_ms: int) -> None:
        """Drop what is due, some of it at a time."""
        began_s = time.monotonic()
        if began_s < self._due_s:
            return
        dropped = sum(self._trim(connection, _Rule(*row), now_ms) for row in connection.execute(_RULES).fetchall())
        took_s = time.monotonic() - began_s
        self._due_s = time.monotonic() + max(0.0 if dropped else EVERY_S, took_s / SHARE)

    def _trim(self, connection: sqlite3.Connection, rule: _Rule, now_ms: int) -> int:
        first = rule.number * (self._width << self._partition_bits)
        places = connection.execute(_PLACES, (first, first + rule.partitions * self._width)).fetchall()
        excess = 0
        if rule.size_bytes is not None:
            (size,) = connection.execute(_SIZE, (first, first + rule.partitions * self._width)).fetchone()
            excess = size - rule.size_bytes
        pressing = excess > 0
        cuts: dict[int, int] = {}
        for old in sorted(self._oldest(connection, places)):
            too_old = rule.age_ms is not None and old.append_ts < now_ms - rule.age_ms
            if not too_old and excess <= 0:
                break
            cuts[old.place] = old.end
            excess -= old.size
        return sum(
            self._cut(connection, rule, (place, begin, cuts[place]), pressing=pressing)
            for place, begin, _ in places
            if place in cuts
        )

    def _oldest(self, connection: sqlite3.Connection, places: list[tuple[int, int, int]]) -> Iterator[_Old]:
        for place, _, after in places:
            rows = connection.execute(_OLDEST, (place, place + self._width, _BLOCKS)).fetchall()
            ends = [row[0] - place for row in rows[1:]]
            ends += [after] if len(rows) < _BLOCKS else []  # of the last one the end is not known else
            yield from (
                _Old(append_ts, place, end, size) for (_, append_ts, size), end in zip(rows, ends, strict=False)
            )

    def _cut(self, connection: sqlite3.Connection, rule: _Rule, cut: tuple[int, int, int], *, pressing: bool) -> int:
        """Cut one partition off; return how many messages went.

        cut: its place, where it begins, and where it should. pressing: whether what is too much goes also where that
        leaves no multiple of the step.
        """
        place, begin, wanted = cut
        allowed = wanted
        if rule.committed:
            partition = place // self._width % (1 << self._partition_bits)
            floor, group = connection.execute(_FLOOR, (rule.number, partition)).fetchone() or (0, "")
            allowed = min(wanted, floor)
            self._warn(rule, wanted - allowed, group)
        start = allowed // rule.step * rule.step
        if start <= begin and pressing:
            start = allowed
        if start <= begin:
            return 0
        connection.execute(_DROP, (place, place + start))
        connection.execute(_BEGIN, (start, place))
        return start - begin

    def _warn(self, rule: _Rule, waiting: int, group: str) -> None:
        if waiting > 0 and time.monotonic() - self._warned_s > _WARN_S:
            self._warned_s = time.monotonic()
            logger.warning(
                "topic %s is beyond its retention, and %d messages that should go are kept, as %s committed "
                "them yet: run its job (`headrace doctor` says which are behind), or `headrace forget --group NAME` if "
                "it is run no more",
                rule.topic,
                waiting,
                f"group {group} has not" if group else "no job has",
            )
