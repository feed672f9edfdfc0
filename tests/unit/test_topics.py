"""Reading topics: to their end, from where one was, by key, as records; gaps between offsets as transactions leave."""

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from headrace.pipelines.published import published, serving
from headrace.pipelines.topics import TopicReader, messages, newest, partition_messages, records
from headrace.schemas.errors import CorruptDataError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import MessageBatch, Record
from headrace.sinks.sqlite.log import SqliteLog


class Note(msgspec.Struct):
    number: int


class GappedLog(SqliteLog):
    """Only even offsets hold a message, as where each message has a transaction of its own."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        begin, end = super().bounds(topic, partition)
        return 2 * begin, 2 * end

    def read(self, topic: str, partition: int, offset: int, limit: int) -> MessageBatch:
        batch = super().read(topic, partition, (offset + 1) // 2, limit)
        return replace(batch, offsets=2 * batch.offsets)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "log.db", lambda: 0)
    log.create("notes", 4)
    yield log
    log.close()


def note(key: str, number: int | None) -> Record:
    return Record("notes", key.encode(), None if number is None else msgspec.json.encode(Note(number)))


def numbers(batches: Iterator[MessageBatch]) -> list[int]:
    return [found.number for found in records(batches, Note)]


def test_a_topic_is_read_to_its_end(log: SqliteLog) -> None:
    log.send([note(f"key-{i}", i) for i in range(1_200)])
    assert sorted(numbers(messages(log, "notes"))) == list(range(1_200))


def test_a_key_is_read_in_order_and_alone(log: SqliteLog) -> None:
    log.send([note(key, i) for i in range(3) for key in "abcdefgh"])
    assert numbers(messages(log, "notes", "c")) == [0, 1, 2]


def test_a_reader_goes_on_where_it_was(log: SqliteLog) -> None:
    reader = TopicReader(log, "notes", "a")
    log.send([note("a", 1), note("b", 2)])
    assert numbers(reader.batches()) == [1]
    log.send([note("a", 3)])
    assert numbers(reader.batches()) == [3]
    assert numbers(reader.batches()) == []


def test_what_could_not_be_taken_in_is_read_again(log: SqliteLog) -> None:
    reader = TopicReader(log, "notes")
    log.send([note("a", 1)])
    assert len(next(reader.batches())) == 1  # and no more is asked for: taking it in fails
    assert numbers(reader.batches()) == [1]


def test_an_end_bounds_what_is_read_where_offsets_have_gaps(tmp_path: Path) -> None:
    log = GappedLog(tmp_path / "gapped.db", lambda: 0)
    log.create("notes", 1)
    log.send([note("a", i) for i in range(5)])
    assert numbers(partition_messages(log, "notes", 0, 0, 3)) == [0, 1]
    assert numbers(partition_messages(log, "notes", 0, 3, 7)) == [2, 3]
    assert numbers(messages(log, "notes")) == [0, 1, 2, 3, 4]
    log.close()


def test_the_newest_of_each_key_stands_and_a_tombstone_takes_it_away(log: SqliteLog) -> None:
    log.send([note("a", 1), note("b", 2), note("a", 3), note("b", None), note("c", 4)])
    assert newest(log, "notes", Note) == {"a": Note(3), "c": Note(4)}


def grown(log: SqliteLog, clock: list[int]) -> None:
    """Key a was in partition 3 while the topic was smaller, and is in 1 now; a producer that knew it late went on."""
    for ts, partition, number in ((1, 3, 1), (2, 3, 2), (5, 1, 3), (6, 3, 4), (9, 1, 5)):
        clock[0] = ts
        log.send([replace(note("a", number), partition=partition), replace(note("b", 7), partition=2)])


def test_a_key_is_read_in_order_from_whatever_partition_it_lies_in(tmp_path: Path) -> None:
    clock = [0]
    with closing(SqliteLog(tmp_path / "grown.db", lambda: clock[0])) as log:
        log.create("notes", 4)
        grown(log, clock)
        reader = TopicReader(log, "notes", "a")
        batches = reader.batches()
        assert [numbers(iter([next(batches)])) for _ in range(2)] == [[1], [2]]
        assert numbers(reader.batches()) == [2, 3, 4, 5]  # the second's taking in had failed
        clock[0] = 10
        log.send([replace(note("a", 6), partition=0)])
        assert numbers(reader.batches()) == [6]
        assert newest(log, "notes", Note) == {"a": Note(6), "b": Note(7)}


def test_the_newest_lies_in_whatever_partition(tmp_path: Path) -> None:
    clock = [0]
    with closing(SqliteLog(tmp_path / "grown.db", lambda: clock[0])) as log:
        log.create("notes", 4)
        grown(log, clock)
        assert newest(log, "notes", Note)["a"] == Note(5)
        clock[0] = 20
        log.send([replace(note("a", None), partition=0)])
        assert "a" not in newest(log, "notes", Note)
        log.send([replace(note("a", 6), partition=3)])
        assert "a" not in newest(log, "notes", Note)  # as late as the tombstone, in another partition
        clock[0] = 21
        log.send([replace(note("a", 7), partition=3)])
        assert newest(log, "notes", Note)["a"] == Note(7)


def test_what_is_no_such_record_is_passed_over_with_its_place(log: SqliteLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log.send([note("a", 1), Record("notes", b"a", b"{}"), note("a", None), note("a", 2)])
    assert numbers(messages(log, "notes", "a")) == [1, 2]
    place = f"topic notes, partition {partition_of(b'a', 4)}: offset 1 is no Note and is passed over"
    assert [record.message for record in caplog.records] == [
        f"{place}: Object missing required field `number`",
    ]


def test_a_decision_that_cannot_be_read_is_not_passed_over(log: SqliteLog) -> None:
    """A hold in a format that is newer than this code must stop who would promote through it."""
    log.create("policies", 1)
    log.send([Record("policies", b"valve", b'{"schema_version":2,"task":"valve","hold":true}')])
    for ask in (lambda: published(log, "valve"), lambda: serving(log)):
        with pytest.raises(CorruptDataError, match="topic policies, partition 0: offset 0 is no ServingPolicy"):
            ask()
