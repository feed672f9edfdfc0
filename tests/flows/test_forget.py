"""What must go leaves index, cache and log, and does not come back with the next reading of the log."""

import sqlite3
from contextlib import closing

import msgspec
import pytest
from click.testing import CliRunner
from stream import open_stream
from test_repair import content, ingest

from headrace.pipelines.cli import cli
from headrace.pipelines.fleet.job import cloud_task
from headrace.pipelines.query.forget import Forgetting
from headrace.pipelines.query.quarantine import rejected
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Forgotten, Record
from headrace.sinks.files.lock import held
from headrace.sinks.memory import MemoryCache

SPEC = cloud_task()


@pytest.fixture
def sampled(recorded, tmp_path):
    """The recorded stream, in an index that keeps every decision, and a rejected message of its first window."""
    (tmp_path / "log.db").write_bytes((recorded / "log.db").read_bytes())
    stream = open_stream(tmp_path, sample_every=1)
    first = stream.log.read("transitions", 0, 0, 1)
    bad = first.values[0].replace(b'"reward"', b'"rewurd"') if not first.headers[0] else b'{"task":"cloud","ts":1}'
    stream.log.send([Record("transitions", b"secret-agent", bad, partition=0)])
    ingest(stream, from_start=True)
    yield stream
    stream.close()


def forget(stream, end_ms, *, remove, cache=None):
    return Forgetting(stream.log, SPEC, stream.layout, end_ms, remove).run(stream.index, cache or MemoryCache(1 << 20))


def test_what_is_before_goes_and_the_rest_stays(sampled):
    stream = sampled
    starts = sorted({row.key.start_ms for row in stream.index.windows()})
    end_ms = starts[len(starts) // 2]
    before = content(stream)
    (refused,) = rejected(stream.log)
    counted = forget(stream, end_ms, remove=False)
    assert content(stream) == before, "it was only counted"
    kept = [row.key for row in stream.index.scan() if row.key.start_ms >= end_ms]
    old = stream.log.read("transitions", 0, 0, 1).values[0]

    gone = forget(stream, end_ms, remove=True)
    assert msgspec.to_builtins(gone) == msgspec.to_builtins(counted)
    assert min(gone.index.chunks, gone.index.windows, gone.index.decisions, gone.messages["transitions"]) > 0
    assert gone.messages["windows"] == 2 * gone.index.windows, "the log was read twice"
    assert (gone.messages["transitions.rejected"], gone.straddling, gone.faults) == (1, 0, [])
    assert [row.key for row in stream.index.scan()] == kept
    assert kept
    (emptied,) = rejected(stream.log)
    assert (emptied.kept, emptied.key, emptied.place) == (None, None, refused.place)
    after = content(stream)
    held = (stream.folder / "log.db").read_bytes() + (stream.folder / "log.db-wal").read_bytes()
    assert old[len(old) // 2 :][:200] not in held
    assert b"secret-agent" not in held

    job = ingest(stream, from_start=True)
    assert content(stream) == after, "reading the log again brings nothing back"
    assert job.counts.repaired == 0
    again = forget(stream, end_ms, remove=True)
    assert (again.index, sum(again.messages.values())) == (Forgotten(0, 0, 0), 0)


def test_it_is_refused_while_ingest_runs(sampled):
    folder = sampled.folder
    options = ["--log", f"sqlite:///{folder}/log.db", "--index", f"sqlite:///{folder}/index.db"]
    arguments = ["forget", *options, "--task", "cloud", "--before", "2100-01-01"]
    before = content(sampled)
    with held(folder / "log.db.ingest.lock", "ingest", ""):
        counted = CliRunner().invoke(cli, arguments)
        done = CliRunner().invoke(cli, [*arguments, "--yes"])
    assert counted.exit_code == 0, counted.output
    assert "open segment" in str(done.exception)
    assert content(sampled) == before
    assert CliRunner().invoke(cli, [*arguments, "--yes"]).exit_code == 0
    assert list(sampled.index.scan()) == []


def test_a_rejected_message_goes_whose_copy_is_gone_already(sampled):
    (refused,) = rejected(sampled.log)
    for partition in range(sampled.log.topic("transitions.rejected").partitions):
        if sampled.log.bounds("transitions.rejected", partition)[1]:
            sampled.log.overwrite("transitions.rejected", partition, {0: Record("transitions.rejected", None, None)})
    forget(sampled, 1 << 60, remove=True)
    held = sampled.log.read("transitions", refused.partition, refused.offset, 1)
    assert (held.keys, held.values) == ([None], [None])


def test_bytes_that_a_reader_keeps_in_the_write_ahead_log_are_told(sampled, monkeypatch):
    monkeypatch.setattr("headrace.sinks.sqlite.database.BUSY_TIMEOUT_MS", 1)
    with closing(open_stream(sampled.folder)) as other, closing(sqlite3.connect(sampled.folder / "log.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM blocks").fetchone()
        gone = Forgetting(other.log, SPEC, other.layout, 1 << 60, remove=True).run(other.index, MemoryCache(1 << 20))
    (fault,) = gone.faults
    assert "log.db-wal" in fault
    assert gone.index.chunks > 0


def test_what_a_log_cannot_do_is_said_and_the_rest_is_done(sampled, monkeypatch):
    def refuse(topic, partition, records):
        raise SettingsError(f"{topic} can't be changed")

    monkeypatch.setattr(sampled.log, "overwrite", refuse)
    gone = forget(sampled, 1 << 60, remove=True)
    assert gone.faults == ["transitions can't be changed"]
    assert list(sampled.index.scan()) == list(sampled.index.windows()) == []
