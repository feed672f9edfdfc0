"""What every log does. Commit, outputs, and who may commit; order, offsets, ends."""

from collections.abc import Callable

import numpy as np
import pytest
from contract_polling import assigned, assignments, batches, ended, poll_until, values

from headrace.schemas.errors import CommitConflictError, SettingsError, UnknownTopicError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import Commit, EndOfLog, Log, MessageBatch, Record, Revoked, Subscription

OpenLog = Callable[[], Log]


def numbered(topic: str, count: int, partition: int | None = 0, start: int = 0) -> list[Record]:
    return [Record(topic, b"k%d" % i, b"v%d" % i, partition=partition) for i in range(start, start + count)]


def expected(count: int, start: int = 0) -> list[bytes]:
    return [b"v%d" % i for i in range(start, start + count)]


def read_all(log: Log, topic: str, partition: int) -> MessageBatch:
    begin, end = log.bounds(topic, partition)
    return log.read(topic, partition, begin, end - begin)


def test_a_topic_keeps_its_identity_and_partitions(open_log: OpenLog, name: str) -> None:
    log = open_log()
    log.create(name, 3)
    first = log.topic(name)
    log.create(name, 3)
    assert first.partitions == 3
    assert first.identity
    assert log.topic(name) == open_log().topic(name) == first


def test_another_topic_has_another_identity(log: Log, name: str) -> None:
    log.create(name, 1)
    log.create(f"{name}-other", 1)
    assert log.topic(name).identity != log.topic(f"{name}-other").identity


def test_another_number_of_partitions_is_refused(log: Log, name: str) -> None:
    log.create(name, 3)
    with pytest.raises(SettingsError, match=r"3.*4|4.*3"):
        log.create(name, 4)
    assert log.topic(name).partitions == 3


@pytest.mark.parametrize(
    "use",
    [
        lambda log, topic: log.topic(topic),
        lambda log, topic: log.bounds(topic, 0),
        lambda log, topic: log.send([Record(topic, None, b"v")]),
        lambda log, topic: log.read(topic, 0, 0, 1),
        lambda log, topic: log.subscribe("group", topic).poll(1, 0.1),
    ],
)
def test_an_unknown_topic_names_the_remedy(log: Log, name: str, use: Callable[[Log, str], object]) -> None:
    with pytest.raises(UnknownTopicError, match=rf"{name}.*headrace init"):
        use(log, name)


def test_keys_go_where_java_would_put_them(log: Log, name: str) -> None:
    log.create(name, 5)
    keys = [b"agent-%d" % i for i in range(50)] + [b"", b"\x00\xff"]
    log.send([Record(name, key, b"v") for key in keys])
    found = {key: p for p in range(5) for key in read_all(log, name, p).keys}
    assert found == {key: partition_of(key, 5) for key in keys}


def test_a_named_partition_wins_over_the_key(log: Log, name: str) -> None:
    log.create(name, 5)
    log.send(numbered(name, 20, partition=3))
    assert [len(read_all(log, name, p)) for p in range(5)] == [0, 0, 0, 20, 0]


def test_records_without_a_key_are_kept_too(log: Log, name: str) -> None:
    log.create(name, 4)
    sent = [b"v%d" % i for i in range(40)]
    log.send([Record(name, None, value) for value in sent])
    assert sorted(v for p in range(4) for v in read_all(log, name, p).values if v is not None) == sorted(sent)


def test_what_is_sent_is_read_as_it_was(log: Log, name: str) -> None:
    log.create(name, 1)
    records = [
        Record(name, b"k", b"v", (("reason", b"\x00\xff"), ("reason", b"twice")), 0),
        Record(name, None, b"", (), 0),
        Record(name, b"", None, (("empty", b""),), 0),
        Record(name, bytes(range(256)), bytes(300_000), (), 0),
    ]
    log.send(records)
    batch = read_all(log, name, 0)
    assert (batch.topic, batch.partition) == (name, 0)
    assert batch.offsets.tolist() == [0, 1, 2, 3]
    assert batch.offsets.dtype == batch.append_ts.dtype == np.int64
    assert batch.keys == [record.key for record in records]
    assert batch.values == [record.value for record in records]
    assert batch.headers == [record.headers for record in records]


def test_append_times_never_run_backwards(log: Log, name: str) -> None:
    log.create(name, 1)
    for start in range(0, 30, 10):
        log.send(numbered(name, 10, start=start))
    append_ts = read_all(log, name, 0).append_ts
    assert append_ts[0] > 1_600_000_000_000
    assert (np.diff(append_ts) >= 0).all()


def test_bounds_move_with_the_log(log: Log, name: str) -> None:
    log.create(name, 2)
    assert log.bounds(name, 0) == (0, 0)
    log.send(numbered(name, 7))
    log.send([])
    assert (log.bounds(name, 0), log.bounds(name, 1)) == ((0, 7), (0, 0))


def test_reading_starts_at_the_offset_and_stops_at_the_limit_or_the_end(log: Log, name: str) -> None:
    log.create(name, 1)
    for start in range(0, 100, 25):
        log.send(numbered(name, 25, start=start))
    assert log.read(name, 0, 20, 30).values == expected(30, 20)
    assert log.read(name, 0, 90, 30).offsets.tolist() == list(range(90, 100))
    assert len(log.read(name, 0, 100, 30)) == len(log.read(name, 0, 500, 30)) == 0


def test_the_first_events_assign_every_partition(log: Log, name: str) -> None:
    log.create(name, 3)
    log.send(numbered(name, 5, partition=1))
    subscription = log.subscribe(name, name)
    found = assignments(poll_until(subscription, assigned(3)))
    subscription.close()
    assert {p: (a.commit, a.begin, a.end) for p, a in found.items()} == {
        0: (None, 0, 0),
        1: (None, 0, 5),
        2: (None, 0, 0),
    }


def test_a_member_reads_every_message_once_in_order(log: Log, name: str) -> None:
    log.create(name, 3)
    for partition, count in enumerate((1000, 0, 37)):
        log.send(numbered(name, count, partition))
    subscription = log.subscribe(name, name)
    events = poll_until(subscription, ended(3), limit=64)
    subscription.close()
    assert values(events) == {0: expected(1000), 2: expected(37)}
    assert max(len(batch) for batch in batches(events)) <= 64


def test_the_end_is_told_each_time_it_is_reached(log: Log, name: str) -> None:
    log.create(name, 2)
    subscription = log.subscribe(name, name)
    first = poll_until(subscription, ended(2))
    assert sorted(e.offset for e in first if isinstance(e, EndOfLog)) == [0, 0]
    log.send(numbered(name, 10, partition=1))
    second = poll_until(subscription, ended(1))
    subscription.close()
    assert values(second) == {1: expected(10)}
    assert [e for e in second if isinstance(e, EndOfLog)] == [EndOfLog(1, 10)]
    assert isinstance(second[-1], EndOfLog)


def test_nothing_new_is_an_empty_list(log: Log, name: str) -> None:
    log.create(name, 1)
    subscription = log.subscribe(name, name)
    poll_until(subscription, ended(1))
    assert subscription.poll(10, 0) == subscription.poll(10, 0.05) == []
    subscription.close()


def test_a_new_member_goes_on_from_the_commit(log: Log, name: str) -> None:
    log.create(name, 2)
    log.send(numbered(name, 20))
    first = log.subscribe(name, name)
    poll_until(first, ended(2))
    first.commit({0: Commit(12, "B=8 T=1700000000000")})
    first.close()
    second = log.subscribe(name, name)
    events = poll_until(second, ended(2))
    second.close()
    found = assignments(events)
    assert found[0].commit == Commit(12, "B=8 T=1700000000000")
    assert found[1].commit is None
    assert values(events) == {0: expected(8, 12)}


def test_commits_are_seen_by_others_and_kept_by_group(open_log: OpenLog, name: str) -> None:
    log = open_log()
    log.create(name, 2)
    subscription = log.subscribe(name, name)
    poll_until(subscription, assigned(2))
    subscription.commit({0: Commit(0, "a"), 1: Commit(0, "b")})
    subscription.commit({1: Commit(0, "c")})
    subscription.close()
    assert open_log().committed(name, name) == {0: Commit(0, "a"), 1: Commit(0, "c")}
    assert log.committed(f"{name}-other", name) == {}
    assert name in log.groups()


def test_seeking_moves_the_position_and_the_end_is_told_again(log: Log, name: str) -> None:
    log.create(name, 1)
    log.send(numbered(name, 50))
    subscription = log.subscribe(name, name)
    poll_until(subscription, ended(1))
    subscription.seek(0, 30)
    assert values(poll_until(subscription, ended(1))) == {0: expected(20, 30)}
    subscription.seek(0, 50)
    assert values(poll_until(subscription, ended(1))) == {}
    subscription.close()


def test_seeking_on_assignment_comes_before_any_message(log: Log, name: str) -> None:
    log.create(name, 1)
    log.send(numbered(name, 10))
    subscription = log.subscribe(name, name)
    events = poll_until(subscription, assigned(1))
    assert batches(events) == []
    subscription.seek(0, 7)
    assert values(poll_until(subscription, ended(1))) == {0: expected(3, 7)}
    subscription.close()


def test_a_commit_appends_its_outputs(log: Log, name: str) -> None:
    log.create(name, 1)
    log.create(f"{name}-out", 2)
    log.send(numbered(name, 5))
    subscription = log.subscribe(name, name)
    poll_until(subscription, ended(1))
    subscription.commit({0: Commit(5)}, [Record(f"{name}-out", b"k", b"o%d" % i, partition=1) for i in range(3)])
    subscription.commit({}, [Record(f"{name}-out", b"k", b"alone", partition=1)])
    subscription.close()
    assert log.committed(name, name) == {0: Commit(5)}
    assert read_all(log, f"{name}-out", 1).values == [b"o0", b"o1", b"o2", b"alone"]


def test_a_commit_whose_outputs_fail_moves_nothing(log: Log, name: str) -> None:
    log.create(name, 1)
    log.create(f"{name}-out", 1)
    subscription = log.subscribe(name, name)
    poll_until(subscription, assigned(1))
    outputs = [Record(f"{name}-out", b"k", b"o"), Record(f"{name}-nowhere", b"k", b"o")]
    with pytest.raises(UnknownTopicError):
        subscription.commit({0: Commit(0, "moved")}, outputs)
    subscription.close()
    assert log.committed(name, name) == {}
    assert len(read_all(log, f"{name}-out", 0)) == 0


def test_what_is_not_assigned_cannot_be_committed(log: Log, name: str) -> None:
    log.create(name, 1)
    subscription = log.subscribe(name, name)
    with pytest.raises(CommitConflictError, match=name):
        subscription.commit({0: Commit(0)})
    subscription.close()


def test_outputs_into_the_topic_that_is_read_are_read_too(log: Log, name: str) -> None:
    log.create(name, 1)
    subscription = log.subscribe(name, name)
    poll_until(subscription, ended(1))
    subscription.commit({0: Commit(0)}, numbered(name, 2))
    assert values(poll_until(subscription, ended(1))) == {0: expected(2)}
    subscription.close()


# --- a commit fences


def member(log: Log, name: str, partitions: int) -> Subscription:
    """Join, and wait until all partitions are this member's; one that has them and does not poll is overtaken."""
    subscription = log.subscribe(name, name)
    poll_until(subscription, assigned(partitions))
    return subscription


def test_a_member_that_was_overtaken_commits_nothing(log: Log, name: str) -> None:
    log.create(name, 2)
    log.create(f"{name}-out", 1)
    log.send(numbered(name, 10))
    stale, successor = member(log, name, 2), member(log, name, 2)
    successor.commit({0: Commit(4, "successor")})
    with pytest.raises(CommitConflictError, match=name):
        stale.commit({1: Commit(0), 0: Commit(7)}, [Record(f"{name}-out", b"k", b"stale")])
    assert log.committed(name, name) == {0: Commit(4, "successor")}
    successor.commit({0: Commit(5)}, [Record(f"{name}-out", b"k", b"successor")])
    assert log.committed(name, name) == {0: Commit(5)}
    assert read_all(log, f"{name}-out", 0).values == [b"successor"]
    for one in (stale, successor):
        one.close()


def test_a_commit_that_moves_nothing_still_fences(log: Log, name: str) -> None:
    """Neither offset nor metadata differ from what stands: the log takes it from the rightful member alone."""
    log.create(name, 1)
    log.create(f"{name}-out", 1)
    stale = member(log, name, 1)
    stale.commit({0: Commit(0, "same")})
    successor = member(log, name, 1)
    successor.commit({0: Commit(0, "same")}, [Record(f"{name}-out", b"k", b"once")])
    with pytest.raises(CommitConflictError):
        stale.commit({0: Commit(0, "same")}, [Record(f"{name}-out", b"k", b"once")])
    assert read_all(log, f"{name}-out", 0).values == [b"once"]
    for one in (stale, successor):
        one.close()


def test_a_member_that_was_overtaken_is_told_so_and_goes_on_from_what_stands(log: Log, name: str) -> None:
    """However often that happens."""
    log.create(name, 2)
    log.send(numbered(name, 10))
    stale = member(log, name, 2)
    for place in (4, 7):
        successor = member(log, name, 2)
        successor.commit({0: Commit(place, "successor")})
        with pytest.raises(CommitConflictError):
            stale.commit({0: Commit(9)})
        successor.close()
        events = stale.poll(1_000, 0.2)
        assert sorted(event.partition for event in events[:2] if isinstance(event, Revoked)) == [0, 1]
        events += poll_until(stale, lambda more, told=events: ended(2)(told + more))
        assert Revoked not in map(type, events[2:])
        found = assignments(events)
        assert (found[0].commit, found[1].commit) == (Commit(place, "successor"), None)
        assert values(events) == {0: expected(10 - place, place)}
    stale.commit({0: Commit(10)})
    stale.close()
    assert log.committed(name, name) == {0: Commit(10)}


def test_what_is_not_assigned_takes_nothing_away(log: Log, name: str) -> None:
    log.create(name, 1)
    subscription = member(log, name, 1)
    with pytest.raises(CommitConflictError, match="partition 7"):
        subscription.commit({7: Commit(0)})
    assert Revoked not in map(type, poll_until(subscription, ended(1)))
    subscription.commit({0: Commit(0)})
    subscription.close()
