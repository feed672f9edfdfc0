"""What a run says of itself on the log, whatever happens to the log meanwhile."""

import logging
import time
from contextlib import closing

import msgspec
import pytest

from headrace.pipelines.layout import require_sound
from headrace.pipelines.runtime import liveness
from headrace.pipelines.runtime.liveness import Liveness, Outage
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.retry import retried, retrying
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.service import health
from headrace.pipelines.service.health import Health, stated
from headrace.pipelines.service.service import Service
from headrace.pipelines.topics import OPERATIONS, PARTITIONED, SINGLE, messages, records
from headrace.schemas.errors import CommitConflictError, UnavailableError
from headrace.schemas.ports import Commit
from headrace.schemas.records import Layout, Operation
from headrace.sinks.sqlite.log import SqliteLog

NOW_MS = 1_700_000_000_000


class Downable(SqliteLog):
    """A log that does not answer while `down`."""

    down = False

    def send(self, records):
        if self.down:
            raise UnavailableError("the log is down")
        super().send(records)


@pytest.fixture
def log(tmp_path):
    with closing(Downable(tmp_path / "log.db", lambda: NOW_MS)) as log:
        log.create(OPERATIONS, 1)
        yield log


def service(log, alive=None, positions=None):
    return Service("ingest", object(), (), log, alive or Liveness(), 60.0, positions)


def said(log):
    return list(records(messages(log, OPERATIONS), Operation))


def test_a_run_says_that_it_began_and_how_it_ended(log):
    with stated(service(log), "only", lambda: NOW_MS):
        pass
    with pytest.raises(ValueError, match="boom"), stated(service(log), "only", lambda: NOW_MS + 1):
        raise ValueError("boom")
    assert [(one.kind, one.began_ms - NOW_MS, one.sequence) for one in said(log)] == [
        ("started", 0, 0),
        ("stopped", 0, 1),
        ("started", 1, 0),
        ("failed", 1, 1),
    ]


def test_it_says_at_a_steady_rate_how_far_behind_it_is(log, monkeypatch):
    monkeypatch.setattr(health, "RUNNING_S", 0.05)
    monkeypatch.setattr(health, "LOOK_S", 0.01)
    log.create("t", 1)
    log.send([health.Record("t", None, b"x")] * 7)
    one = service(log, positions=lambda: {("t", 0): 3})
    with stated(one, "only", lambda: NOW_MS):
        time.sleep(0.3)
    one.ends.close()
    running = [record for record in said(log) if record.kind == "running"]
    assert 2 <= len(running) <= 6
    assert {record.lag for record in running} == {4}


def test_an_outage_is_told_once_it_has_begun_and_when_it_is_over(log):
    alive = Liveness()
    one = Health(service(log, alive), "only", lambda: NOW_MS)
    alive.failed(UnavailableError("cassandra://c1: secret=hunter2"), "index")
    one.look()
    assert not one._waiting, "a second is to pass first"
    alive.down_s -= 30.0
    one.look()
    one.look()
    alive.down_s -= 12.5
    one._open = (alive.down_s, NOW_MS - 30_000)
    alive.answered()
    one.look()
    one.send()
    begun, over = said(log)
    assert {begun.kind, over.kind} == {"outage"}
    assert begun.dependency == over.dependency == "index"
    assert begun.since_ms == over.since_ms == pytest.approx(NOW_MS - 30_000, abs=50)
    assert b"hunter2" not in b"".join(v or b"" for batch in messages(log, OPERATIONS) for v in batch.values)


def test_an_outage_of_the_log_is_told_when_it_is_over(log):
    alive = Liveness()
    one = Health(service(log, alive), "only", lambda: NOW_MS)
    log.down = True
    now_s = time.monotonic()
    alive.outages.append(Outage("log", now_s - 90.0, now_s - 20.0))
    one.look()
    one.send()
    assert not said(log)
    log.down = False
    one.send()
    one.send()
    (told,) = said(log)
    assert told.since_ms == pytest.approx(NOW_MS - 90_000, abs=50)
    assert told.ts == pytest.approx(NOW_MS - 20_000, abs=50)


def test_a_retried_port_says_which_dependency_was_away(monkeypatch):
    monkeypatch.setattr(liveness, "SHORTEST_S", 0.0)

    class Index:
        tries = 0

        def put(self):
            self.tries += 1
            if self.tries < 3:
                raise UnavailableError("down")

    stop = Stop()
    retried(Index(), stop, "index").put()
    assert [one.dependency for one in stop.liveness.outages] == ["index"]


def test_commits_that_the_log_refuses_are_told(log):
    """Two processes read the same partition; the one that is overtaken is fenced, and says so once."""
    log.create("t", 1)
    log.send([health.Record("t", None, b"x")] * 3)
    stop = Stop()
    mine, other = Member(retried(log, stop), "g", "t"), Member(log, "g", "t")
    with closing(mine), closing(other):
        for member in (mine, other):
            member.poll(10, 0.0)
        other.commit({0: Commit(3)})
        for _ in range(2):
            with pytest.raises(CommitConflictError):
                mine.commit({0: Commit(2)})
    one = Health(service(log, stop.liveness), "only", lambda: NOW_MS)
    one.look()
    one.look()
    one.send()
    assert [(record.kind, record.commits) for record in said(log)] == [("fenced", 2)]


def test_what_a_store_refuses_is_no_commit():
    def conflict():
        raise CommitConflictError("another learner has saved")

    stop = Stop()
    with pytest.raises(CommitConflictError):
        retrying(conflict, stop, "policies")
    assert stop.liveness.fenced == 0


def test_short_outages_are_not_told():
    alive = Liveness()
    alive.failed(UnavailableError("down"), "index")
    alive.answered()
    assert not alive.outages


def test_a_log_without_the_topic_is_said_once_and_jobs_go_on(tmp_path, caplog):
    """An older headrace made it."""
    with closing(SqliteLog(tmp_path / "old.db", lambda: NOW_MS)) as log:
        for name in {*SINGLE, *PARTITIONED} - {OPERATIONS}:
            log.create(name, 2)
        require_sound(log, Layout("id", 2))
        with caplog.at_level(logging.WARNING), stated(service(log), "only", lambda: NOW_MS):
            pass
    (line,) = caplog.messages
    assert line.startswith("reports don't tell how ingest runs from now on: topic operations")
    assert line.endswith("create it with `headrace init`")


def test_what_waits_for_the_log_is_bounded(log):
    log.down = True
    one = Health(service(log), "only", lambda: NOW_MS)
    for _ in range(health.HELD + 5):
        one.say("running")
    assert msgspec.json.decode(one._waiting[0].value, type=Operation).sequence == 5
