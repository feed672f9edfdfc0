"""What was damaged in an index is good again when the log is read from its start, whatever it was."""

import sqlite3
from contextlib import closing

import pytest
from stream import open_stream

from headrace.pipelines.ingest.job import Ingest, dataflow
from headrace.pipelines.query.index_hash import index_hash
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.topics import INGEST, TRANSITIONS
from headrace.sinks.memory import MemoryCache

FLIP = "substr({0}, 1, length({0}) / 2) || x'ff' || substr({0}, length({0}) / 2 + 2)"
DAMAGE = {
    "a byte of a payload": f"UPDATE chunks SET payload = CAST({FLIP.format('payload')} AS BLOB)",
    "a payload that is cut": "UPDATE chunks SET payload = substr(payload, 1, length(payload) / 2)",
    "a payload that is gone": "UPDATE chunks SET payload = x''",
    "stats": f"UPDATE chunks SET stats = CAST({FLIP.format('stats')} AS BLOB)",
    "a checksum": "UPDATE chunks SET checksum = checksum + 1",
    "counts": "UPDATE chunks SET received = received + 7, write_time = write_time + 7 WHERE segment = 0",
    "chunks that are gone": "DELETE FROM chunks WHERE rowid % 2 = 0",
    "a summary that is no JSON": "UPDATE windows SET summary = substr(summary, 1, 40)",
    "a digit of a summary": "UPDATE windows SET summary = CAST(replace(CAST(summary AS TEXT), '1', '2') AS BLOB)",
    "a summary of a later time": "UPDATE windows SET summary = x'ff', write_time = write_time + 1000",
    "windows that are gone": "DELETE FROM windows WHERE rowid % 2 = 0",
    "decisions": f"UPDATE decisions SET data = CAST({FLIP.format('data')} AS BLOB)",
    "decisions that are gone": "DELETE FROM decisions WHERE rowid % 2 = 0",
}


def content(stream):
    """Everything in the index that a question may be answered from."""
    rows = stream.index._reader.rows('SELECT * FROM decisions ORDER BY task, partition, "offset", agent_id, step')
    return index_hash(stream.index), rows


def told(stream):
    """The last message of each key on `windows`."""
    batches = [stream.log.read("windows", partition, 0, 100_000) for partition in range(2)]
    return {key: value for batch in batches for key, value in zip(batch.keys, batch.values, strict=True)}


def ingest(stream, **options):
    cache = MemoryCache(1 << 20)
    job = Ingest(stream.log, stream.index, cache, stream.layout, until_caught_up=True, timer=lambda: 0.0, **options)
    with closing(job):
        run(dataflow(job), job.stop)
    return job


@pytest.fixture(scope="module")
def sampled(recorded, tmp_path_factory):
    """The recorded stream in an index that keeps every decision."""
    folder = tmp_path_factory.mktemp("sampled")
    (folder / "log.db").write_bytes((recorded / "log.db").read_bytes())
    stream = open_stream(folder, sample_every=1)
    ingest(stream, from_start=True)
    stream.close()
    return folder


@pytest.mark.parametrize("kind", DAMAGE)
def test_reading_the_log_again_repairs(sampled, tmp_path, kind):
    for name in ("log.db", "index.db"):
        (tmp_path / name).write_bytes((sampled / name).read_bytes())
    stream = open_stream(tmp_path, sample_every=1)
    expected, committed = content(stream), stream.log.committed(INGEST, TRANSITIONS)
    with closing(sqlite3.connect(tmp_path / "index.db")) as index, index:
        assert index.execute(DAMAGE[kind]).rowcount > 0
    job = ingest(stream, from_start=True)
    assert content(stream) == expected
    assert stream.log.committed(INGEST, TRANSITIONS) == committed
    assert job.counts.repaired > 0 or "gone" in kind or kind == "decisions"
    assert ingest(stream, from_start=True).counts.repaired == 0
    stream.close()


@pytest.mark.parametrize("begins", [(5, 32), (16, 33), (9, 100_000)])
def test_a_log_that_begins_later_changes_nothing_that_was_indexed_before(sampled, tmp_path, begins):
    """Retention has cut segments of 16 in two; a window's chunks lie on both sides. 100,000: one message is left."""
    for name in ("log.db", "index.db"):
        (tmp_path / name).write_bytes((sampled / name).read_bytes())
    with closing(sqlite3.connect(tmp_path / "log.db")) as log, log:
        topic = "SELECT number << 53 FROM topics WHERE topic = 'transitions'"
        for partition, begin in enumerate(begins):
            place = f"id = ({topic}) + ({partition} << 40)"
            log.execute(f"UPDATE partitions SET begin = min({begin}, next - 1) WHERE {place}")
    stream = open_stream(tmp_path, sample_every=1)
    expected, before = content(stream), told(stream)
    assert ingest(stream, from_start=True).counts.repaired == 0
    assert content(stream) == expected
    assert told(stream) == before
    stream.close()
