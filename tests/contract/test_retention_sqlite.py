"""The SQLite log forgets its oldest messages by age and by size, and nothing that a group has yet to commit."""

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from contract_polling import assigned, ended, poll_until, values

from headrace.schemas.ports import Commit, Record, Retention
from headrace.sinks.sqlite import retention
from headrace.sinks.sqlite.log import SqliteLog

SIZE = 1_000
CLOCK = [0]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteLog]:
    monkeypatch.setattr(retention, "EVERY_S", 0.0)
    monkeypatch.setattr(retention, "SHARE", 1e9)
    CLOCK[0] = 0
    with closing(SqliteLog(tmp_path / "log.db", lambda: CLOCK[0])) as log:
        for topic in ("t", "other"):
            log.create(topic, 2)
        yield log


def send(log: SqliteLog, ts: int, count: int = 1, partition: int = 0, topic: str = "t") -> None:
    CLOCK[0] = ts
    log.send([Record(topic, None, b"x" * SIZE, partition=partition)] * count)


def commit(log: SqliteLog, group: str, *offsets: int) -> None:
    with closing(log.subscribe(group, "t")) as subscription:
        poll_until(subscription, assigned(2))
        subscription.commit({partition: Commit(offset) for partition, offset in enumerate(offsets)})


def begins(log: SqliteLog, topic: str = "t") -> list[int]:
    return [log.bounds(topic, partition)[0] for partition in range(2)]


def held(log: SqliteLog, partition: int) -> list[int]:
    return log.read("t", partition, 0, 1_000).offsets.tolist()


def test_what_is_too_old_goes_from_each_partition(log: SqliteLog) -> None:
    log.retain("t", Retention(age_ms=100, committed=False))
    for ts in (0, 50, 100, 150):
        send(log, ts, 3, partition=0)
        send(log, ts, 2, partition=1)
        send(log, ts, 2, topic="other")
    assert begins(log) == [3, 2]
    assert held(log, 0) == [*range(3, 12)]
    assert log.bounds("t", 0) == (3, 12)
    assert begins(log, "other") == [0, 0]


def test_beyond_the_size_the_oldest_go_wherever_they_lie(log: SqliteLog) -> None:
    log.retain("t", Retention(size_bytes=10 * SIZE + 500, committed=False))
    for ts in range(10):
        send(log, ts, 2, partition=ts % 2)
    assert sum(len(held(log, partition)) for partition in range(2)) <= 10
    assert abs(begins(log)[0] - begins(log)[1]) <= 2
    send(log, 99, 12, partition=0)  # one block that is larger than all that may be kept
    assert held(log, 1) == []
    send(log, 100, 1, partition=1)
    assert held(log, 1)[-1] == 10


def test_nothing_goes_that_a_group_has_not_committed(log: SqliteLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log.retain("t", Retention(age_ms=1))
    send(log, 0, 9)
    send(log, 50)
    assert begins(log) == [0, 0], "no group has read it yet"
    assert "9 messages that should go are kept" in caplog.text
    commit(log, "slow", 4, 0)
    commit(log, "ingest", 9, 0)
    for _ in range(2):
        send(log, 50)
    assert begins(log) == [4, 0]
    commit(log, "slow", 8, 0)
    send(log, 50)
    assert begins(log) == [8, 0]
    assert log.groups() == ["ingest", "slow"]
    log.drop("slow")
    send(log, 50)
    assert begins(log) == [9, 0], "nothing waits for a group that is gone"


def test_the_group_that_retention_waits_for_is_named(log: SqliteLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log.retain("t", Retention(age_ms=1))
    commit(log, "learn.arm", 0, 0)
    commit(log, "learn", 0, 0)
    send(log, 0, 9)
    commit(log, "learn", 9, 0)
    send(log, 50)
    assert "group learn.arm has not committed" in caplog.text


def test_it_is_cut_at_multiples_of_the_step(log: SqliteLog) -> None:
    """Segments stay whole, also where a block of records goes beyond one."""
    log.retain("t", Retention(age_ms=10, step=4, committed=False))
    for count in (3, 3, 5):
        send(log, 0, count)
    send(log, 50)
    assert begins(log) == [8, 0]
    assert held(log, 0) == [8, 9, 10, 11]


def test_a_step_that_is_too_large_is_not_kept_whole(log: SqliteLog) -> None:
    log.retain("t", Retention(size_bytes=3 * SIZE + 500, step=1_000, committed=False))
    for _ in range(10):
        send(log, 0)
    assert begins(log) == [7, 0]


def test_what_is_long_overdue_goes_bit_by_bit(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BLOCKS", 4)
    for _ in range(30):
        send(log, 0)
    log.retain("t", Retention(age_ms=10, committed=False))
    for expected in (3, 6, 9):
        send(log, 50)
        assert begins(log) == [expected, 0]


def test_a_member_and_the_append_time_go_on(log: SqliteLog) -> None:
    send(log, 0, 5)
    with closing(log.subscribe("group", "t")) as subscription:
        poll_until(subscription, assigned(2))
        log.retain("t", Retention(age_ms=10, committed=False))
        send(log, 500, 2)
        send(log, 501, 0)
        assert values(poll_until(subscription, ended(2))) == {0: [b"x" * SIZE] * 2}
    log.retain("t", Retention())
    send(log, 10_000)
    assert held(log, 0) == [5, 6, 7]


def test_an_appender_looks_now_and_then(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVERY_S", 60.0)
    seconds = [0.0]
    monkeypatch.setattr("headrace.sinks.sqlite.retention.time.monotonic", lambda: seconds[0])
    log.retain("t", Retention(age_ms=10, committed=False))
    send(log, 0)
    send(log, 50)
    assert begins(log) == [0, 0]
    seconds[0] = 61.0
    send(log, 50)
    assert begins(log) == [1, 0]


def test_it_says_what_is_kept(log: SqliteLog) -> None:
    log.retain("t", Retention(7 * 86_400_000, 2_000_000_000))
    assert log.about().endswith("MB; t kept 168 hours and 2000 MB")
