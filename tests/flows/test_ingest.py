"""ingest on a log in memory: what is written, told, rejected and committed, by hand-computed cases."""

import json
import random
import time

import msgspec
import numpy as np
import pytest
from messages import T0, transition
from model import MARK, MemoryIndex
from test_model import empty_log, finish, new_ingest

from headrace.pipelines.ingest.items import Opened, Tick
from headrace.pipelines.topics import IngestCommit
from headrace.schemas import codec
from headrace.schemas.errors import LogGapError, UnavailableError
from headrace.schemas.ports import Assigned, Commit, EndOfLog, Record, Revoked
from headrace.schemas.records import TaskSpec, WindowSummary

VALVE = TaskSpec(task="valve", observations=("x0", "x1"), actions=("a", "b"), window_ms=1_000, groups=1)


def send(log, *messages):
    """Append (append time, value) to partition 0."""
    for now_ms, value in messages:
        log.now_ms = now_ms
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        log.send([Record("transitions", b"k", data, partition=0)])


def row(step, ts, agent="v1", **changes):
    return {**transition(np.random.default_rng(step), VALVE, agent, step, ts), **changes}


def ingest(log, index, *, accept_gap=False):
    job = new_ingest(log, index, random.Random(0))
    job.reading._accept_gap = accept_gap
    finish(job)
    return job


@pytest.fixture
def log():
    log = empty_log(partitions=1)
    log.send([Record("tasks", b"valve", msgspec.json.encode(VALVE))])
    return log


@pytest.fixture
def index():
    return MemoryIndex()


def through(job, items):
    """What the steps between source and sink make of items."""
    for _, step in job.steps():
        items = [made for item in items for made in step(item)]
    return items


def told(log):
    return [msgspec.json.decode(value, type=WindowSummary) for _, value, _, _ in log.rows["windows", 0]]


def rules(log):
    return [dict(headers)["rule"].decode() for _, _, headers, _ in log.rows["transitions.rejected", 0]]


def test_a_window_is_told_once_stream_time_passes_its_end_and_grace(log, index):
    """The grace is 200 ms: a row at the end + 199 leaves the window open, one at + 200 closes it."""
    send(log, (T0 + 500, row(0, T0 + 100)), (T0 + 1_300, row(1, T0 + 1_199)))
    ingest(log, index)
    assert told(log) == []
    send(log, (T0 + 1_300, row(2, T0 + 1_200)))
    ingest(log, index)
    (summary,) = told(log)
    assert (summary.start_ms, summary.rows) == (T0, 1)


def test_stream_time_is_never_ahead_of_the_append_time(log, index):
    """A row whose clock is ahead does not close windows before the log's own time has come."""
    send(log, (T0 + 100, row(0, T0 + 50)), (T0 + 200, row(1, T0 + 60_000)))
    ingest(log, index)
    assert told(log) == []
    send(log, (T0 + 1_200, row(2, T0 + 300)), (T0 + 1_250, codec.heartbeat("valve", "v1", T0 + 1_250)))
    ingest(log, index)
    assert [summary.rows for summary in told(log)] == [2]


def test_a_heartbeat_closes_windows(log, index):
    """It moves stream time on and leaves no row."""
    send(log, (T0 + 10, row(0, T0)), (T0 + 2_000, codec.heartbeat("valve", "v1", T0 + 2_000)))
    ingest(log, index)
    assert [summary.rows for summary in told(log)] == [1]
    assert sum(r.rows for r in index.rows.values()) == 1


def test_a_late_row_tells_the_window_again_with_everything(log, index):
    """The second telling counts rows of both segments, from the index and from memory."""
    send(log, (T0 + 10, row(0, T0, reward=1.0)), (T0 + 2_000, codec.heartbeat("valve", "v1", T0 + 2_000)))
    send(log, *[(T0 + 2_001, codec.heartbeat("valve", "v1", T0)) for _ in range(20)])  # the segment ends at 16
    ingest(log, index)
    send(log, (T0 + 3_000, row(1, T0 + 5, reward=2.0)))
    job = ingest(log, index)
    first, second = told(log)
    assert (first.rows, second.rows) == (1, 2)
    assert second.totals.reward_sum == 3.0
    assert [c.segment for c in second.chunks] == [0, 16]
    assert job.counts.late == 1


def test_duplicates_are_dropped_and_counted(log, index):
    """Of equal (agent, episode, step) in a chunk the first stands."""
    send(log, (T0 + 10, row(0, T0, reward=1.0)), (T0 + 11, row(0, T0 + 1, reward=5.0)))
    send(log, (T0 + 2_000, codec.heartbeat("valve", "v1", T0 + 2_000)))
    ingest(log, index)
    (summary,) = told(log)
    assert (summary.rows, summary.duplicates, summary.totals.reward_sum) == (1, 1, 1.0)
    (chunk,) = index.rows.values()
    assert (chunk.rows, chunk.received, chunk.write_time) == (1, 2, T0 * 1_000 + 2)


def test_a_poison_message_stops_nothing(log, index):
    """Each bad message is rejected with its rule; its neighbours are indexed."""
    send(
        log,
        (T0, row(0, T0)),
        (T0, b"{"),
        (T0, b""),
        (T0, row(1, T0, obs=[1.0])),
        (T0, row(2, T0, action=9)),
        (T0, row(3, T0 + 400_000)),
        (T0, row(4, T0, task="other")),
        (T0, row(5, T0, schema_version=2)),
        (T0, b" " * 2_000_000),
        (T0, row(6, T0)),
    )
    job = ingest(log, index)
    assert rules(log) == ["syntax", "empty", "width", "action", "clock", "unknown_task", "schema_version", "size"]
    assert job.counts.transitions == 2
    cut = log.rows["transitions.rejected", 0][-1][1]
    assert len(cut) == 65_536


def test_a_message_is_judged_by_the_tasks_added_before_it(log, index):
    """A task that comes later does not bless what came before, whenever ingest runs."""
    late = msgspec.structs.replace(VALVE, task="late")
    send(log, (T0 + 5, row(0, T0, task="late")))
    log.now_ms = T0 + 10
    log.send([Record("tasks", b"late", msgspec.json.encode(late))])
    send(log, (T0 + 10, row(1, T0, task="late")))
    job = ingest(log, index)
    assert rules(log) == ["unknown_task"]
    assert job.counts.transitions == 1


def test_a_task_added_while_ingest_runs_is_found(log, index):
    """It is looked for before its name is called unknown."""
    job = new_ingest(log, index, random.Random(0))
    log.now_ms = T0 + 1
    log.send([Record("tasks", b"late", msgspec.json.encode(msgspec.structs.replace(VALVE, task="late")))])
    send(log, (T0 + 2, row(0, T0, task="late")))
    finish(job)
    assert rules(log) == []
    assert job.counts.transitions == 1


def test_rows_gone_before_they_were_indexed_stop_the_job(log, index):
    """Retention that overtakes the commit is an error, unless it is accepted; then a segment starts at what is left."""
    send(log, *[(T0 + 10 + i, row(i, T0 + i)) for i in range(30)])
    ingest(log, index)
    send(log, *[(T0 + 50 + i, row(30 + i, T0 + 30 + i)) for i in range(30)])
    log.begins["transitions", 0] = 40
    with pytest.raises(LogGapError, match="30 to 39"):
        ingest(log, index)
    ingest(log, index, accept_gap=True)
    assert sorted({key.segment for key in index.rows}) == [0, 16, 40, 48]
    assert sum(r.rows for r in index.rows.values()) == 50


def test_retention_within_the_open_segment_loses_nothing(log, index):
    """What was indexed before stays as it is; a segment of its own starts at the commit."""
    send(log, *[(T0 + 10 + i, row(i, T0 + i)) for i in range(30)])
    ingest(log, index)
    assert log.committed("ingest", "transitions")[0] == Commit(
        30, msgspec.json.encode(IngestCommit(16, T0 + 29)).decode()
    )
    log.begins["transitions", 0] = 25
    send(log, *[(T0 + 50 + i, row(30 + i, T0 + 30 + i)) for i in range(10)])
    ingest(log, index)
    segments = {key.segment: r.rows for key, r in index.rows.items()}
    assert segments == {0: 16, 16: 14, 30: 2, 32: 8}


def test_a_partition_that_leaves_takes_its_messages_along(log, index):
    """Messages of the poll in which it was revoked are left to its next owner; given back, it starts at the commit."""
    send(log, *[(T0 + 10 + i, row(i, T0 + i)) for i in range(5)])
    job = new_ingest(log, index, random.Random(0))
    opened = job.poll()[0]
    batch = log.read("transitions", 0, 0, 5)
    assigned = Assigned(0, None, 0, 5)
    polls = [[batch, Revoked(0)], [assigned, batch, EndOfLog(0, 5)]]
    job.reading.member.subscription.poll = lambda *_: polls.pop(0)
    assert opened == Opened(0, 0, 0)
    left, back = job.poll(), job.poll()
    assert left == [Revoked(0), Tick(commit=True)]
    assert back == [opened, batch, EndOfLog(0, 5), Tick(commit=False)]
    through(job, [opened, *left, *back])
    assert job.folding.partitions[0].next_offset == 5


def test_an_outage_while_a_late_window_is_told(log, index):
    """The index is asked again until it answers, and nothing of the fold is lost."""
    send(log, *[(T0 + 10 + i, row(i, T0 + i)) for i in range(16)])
    send(log, (T0 + 2_000, codec.heartbeat("valve", "v1", T0 + 2_000)))
    ingest(log, index)
    send(log, (T0 + 3_000, row(99, T0 + 5)))
    job = new_ingest(log, index, random.Random(0))
    scan, failures = job.index.scan, [UnavailableError("down"), UnavailableError("down")]

    def flaky(*arguments, **options):
        if failures:
            raise failures.pop()
        return scan(*arguments, **options)

    job.index.scan = flaky
    finish(job)
    assert [summary.rows for summary in told(log)] == [16, 17]


def test_a_task_that_came_while_another_process_had_the_partition(log, index):
    """Its open windows are loaded on assignment, though this process had never heard of it."""
    newer = msgspec.structs.replace(VALVE, task="newer")
    idle = new_ingest(log, index, random.Random(0))
    log.now_ms = T0
    log.send([Record("tasks", b"newer", msgspec.json.encode(newer))])
    send(log, *[(T0 + 10 + i, row(i, T0 + i, task="newer")) for i in range(20)])
    ingest(log, index)
    send(log, (T0 + 2_000, codec.heartbeat("valve", "v1", T0 + 2_000)))
    finish(idle)
    assert [(summary.task, summary.rows) for summary in told(log)] == [("newer", 20)]


def test_offsets_that_hold_no_message(log, index):
    """A transaction's marks at a segment's end and at the log's end are gone over."""
    send(log, *[(T0 + 10 + i, row(i, T0 + i)) for i in range(15)])
    log.rows["transitions", 0] += [MARK, MARK]
    job = ingest(log, index)
    assert job.folding.partitions[0].next_offset == 17
    assert log.committed("ingest", "transitions")[0].offset == 17


def test_a_batch_is_timed_from_its_first_poll_and_a_commit_that_moved_is_noted(log, index, monkeypatch):
    """A fold of two polls is one batch. A commit that stands still is not noted, and a partition that left is not."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    job = new_ingest(log, index, random.Random(0))
    job.reading.member.subscription.port.fate = None
    send(log, (T0, row(0, T0)))
    job.store(through(job, [job.poll()[0], job.poll()[0]]))
    assert job.meters.moved_s == {0: 100.0}
    now[0] = 101.0
    send(log, (T0, row(1, T0)))
    job.catch_up()
    through(job, job.poll()[:1])
    now[0] = 104.0
    folds = through(job, [Tick(commit=True, last=True)])
    now[0] = 106.5
    job.store(folds)
    assert (job.meters.batch_s.total, job.meters.write_s.total, job.meters.moved_s) == (6.5, 2.5, {0: 106.5})
    now[0] = 110.0
    job.store(folds)
    assert job.meters.moved_s == {0: 106.5}, "it has not moved"
    job.store([Revoked(0)])
    assert job.meters.moved_s == {}
    assert job.positions == {}
