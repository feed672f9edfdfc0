"""Histograms, meters, ends, health and addresses; the table of metrics is the one in docs/operations.md."""

import json
import logging
import re
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from chunk_examples import random_rows
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from headrace.pipelines.cli.logs import JsonFormatter
from headrace.pipelines.explain import metrics as explain_metrics
from headrace.pipelines.fleet import metrics as fleet_metrics
from headrace.pipelines.ingest import metrics as ingest_metrics
from headrace.pipelines.ingest.meters import IngestMeters
from headrace.pipelines.learn import metrics as learn_metrics
from headrace.pipelines.learn.meters import LearnerMeters
from headrace.pipelines.report import metrics as digest_metrics
from headrace.pipelines.runtime.liveness import Liveness
from headrace.pipelines.runtime.retry import retrying
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.serve.meter import METERS, OF_SITE
from headrace.pipelines.service.address import Address, parse_address
from headrace.pipelines.service.endpoint import served
from headrace.pipelines.service.ends import Ends
from headrace.pipelines.service.histogram import Histogram
from headrace.pipelines.service.metrics import Metric, registry
from headrace.pipelines.service.service import EVERY_JOB, LAG, Service
from headrace.schemas.chunk import ChunkRow
from headrace.schemas.errors import SettingsError, UnavailableError
from headrace.schemas.ports import Record
from headrace.schemas.records import ChunkKey
from headrace.sinks.sqlite.log import SqliteLog

JOBS = {
    "ingest": ingest_metrics.METRICS,
    "learn": learn_metrics.METRICS,
    "explain": explain_metrics.METRICS,
    "fleet": fleet_metrics.METRICS,
    "digest": digest_metrics.METRICS,
    "serve": (*METERS, *OF_SITE),
}
OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
ROW = re.compile(r"^\| `(headrace_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


def documented(title):
    """(name, type, labels) of each row below a heading of the document."""
    (section,) = re.findall(rf"^### {title}\n(.*?)(?=^##|\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)
    return [(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(section)]


@pytest.mark.parametrize(
    ("title", "table"), [("Of every job", (*EVERY_JOB, LAG)), *((name, table) for name, table in JOBS.items())]
)
def test_the_document_has_the_table(title, table):
    assert documented(title) == [(metric.name, metric.kind, metric.labels) for metric in table]


@pytest.mark.parametrize("table", [EVERY_JOB, (LAG,), *JOBS.values()])
def test_names_follow_the_conventions(table):
    """A counter ends in _total, nothing else does; times are seconds, sizes bytes; about is a sentence."""
    for metric in table:
        assert re.fullmatch(r"headrace_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not re.search(r"_(ms|s|millis|mb|kb)$", metric.name)
        assert metric.about.endswith(".")
    assert len({metric.name for metric in table}) == len(table)


def test_a_histogram_by_hand():
    """A value on a bound lies below it; the last bucket has all."""
    histogram = Histogram((1.0, 2.0, 5.0))
    for value in (0.5, 1.0, 1.5, 2.0, 5.1, 100.0):
        histogram.observe(value)
    assert histogram.buckets() == [("1.0", 2.0), ("2.0", 4.0), ("5.0", 4.0), ("+Inf", 6.0)]
    assert histogram.total == pytest.approx(110.1)


@given(st.lists(st.floats(-10, 100)))
def test_many_values_at_once_count_as_one_by_one(values):
    one, many = Histogram(), Histogram()
    for value in values:
        one.observe(value)
    many.observe_all(np.array(values))
    assert one.buckets() == many.buckets()
    assert one.total == pytest.approx(many.total)


def test_every_kind_is_exposed_as_prometheus_reads_it():
    histogram = Histogram((1.0,))
    histogram.observe(0.25)
    table = (
        Metric("headrace_a_total", "counter", "A.", lambda job: job["a"]),
        Metric("headrace_b", "gauge", "B.", lambda job: {("x", "1"): 2.5, ("y", "2"): 3}, ("l", "m")),
        Metric("headrace_c_seconds", "histogram", "C.", lambda _: {("t",): histogram}, ("task",)),
        Metric("headrace_d", "gauge", "D.", lambda _: {}, ("none",)),
    )
    text = generate_latest(registry((table, {"a": 7}))).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {(s.name, *sorted(s.labels.items())): s.value for f in families.values() for s in f.samples}
    assert samples["headrace_a_total",] == 7
    assert samples["headrace_b", ("l", "x"), ("m", "1")] == 2.5
    assert samples["headrace_c_seconds_bucket", ("le", "1.0"), ("task", "t")] == 1
    assert samples["headrace_c_seconds_sum", ("task", "t")] == 0.25
    assert samples["headrace_c_seconds_count", ("task", "t")] == 1
    assert families["headrace_d"].samples == []
    assert ("process_cpu_seconds_total",) in samples


def chunk(part, rows, received, segment=0):
    return ChunkRow(ChunkKey("t", 0, 0, 0, segment, part), rows, received, 0, b"", b"")


def test_what_a_chunk_drops_is_counted_once_however_often_it_is_written():
    meters = IngestMeters()
    for chunks, total in (
        ([chunk(0, 10, 10)], 0),
        ([chunk(0, 12, 15)], 3),
        ([chunk(0, 13, 17), chunk(1, 5, 6)], 5),
        ([chunk(0, 4, 6, segment=64)], 7),
    ):
        meters.committed(0, chunks, 0.0, 0.0)
        assert meters.duplicates == total


def test_a_learner_says_how_old_and_how_stale_its_data_was():
    meters = LearnerMeters()
    rows = random_rows(np.random.default_rng(0), 4)
    rows.ts[:] = [1_000, 2_000, 3_000, 98_000]
    rows.policy_version[:] = [-1, 3, 5, -1]
    meters.took(rows, 7)
    meters.emitted(99_000)
    assert meters.staleness == 3.0
    meters.judged(promoted=False, now_ms=100_000)
    assert meters.transition_to_policy_s.total == 99 + 98 + 97 + 2
    assert meters.window_to_policy_s.total == 1.0
    meters.judged(promoted=True, now_ms=200_000)
    assert (meters.refused, meters.promoted) == (1, 1)
    assert meters.transition_to_policy_s.buckets()[-1] == ("+Inf", 4.0), "each row counts for one candidate"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9464", Address("127.0.0.1", 9464)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:9464", Address("::1", 9464)),
        ("OFF", Address("", 0)),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address
    assert str(address) == text.lower()


@pytest.mark.parametrize("text", ["9464", ":9464", "host", "host:", "host:x", "host:65536", "::1:9464", "host:-1", ""])
def test_what_is_no_address_is_an_error(text):
    with pytest.raises(SettingsError, match="HOST:PORT"):
        parse_address(text)


class Slow(SqliteLog):
    """A log that answers when it is let."""

    answers = threading.Event()

    def bounds(self, topic, partition):
        self.answers.wait(10)
        return super().bounds(topic, partition)


def test_a_scrape_does_not_wait_for_a_log_that_hangs(tmp_path):
    log = Slow(tmp_path / "log.db", lambda: 0)
    log.create("t", 2)
    log.send([Record("t", None, b"x", partition=1)] * 3)
    ends = Ends(log, lambda: [("t", 0), ("t", 1)])
    try:
        log.answers.clear()
        before = time.monotonic()
        assert ends.now() == {}, "nothing is known yet"
        assert time.monotonic() - before < 2
        log.answers.set()
        assert ends.now() == {("t", 0): 0, ("t", 1): 3}
        log.answers.clear()
        assert ends.now() == {("t", 0): 0, ("t", 1): 3}, "what was known a moment ago"
    finally:
        log.answers.set()
        ends.close()
        log.close()


def service(log, *, liveness=None, positions=None, silent_s=60.0):
    liveness = liveness or Liveness()
    return Service("ingest", object(), (), log, liveness, silent_s, positions)


def test_lag_is_the_end_less_the_position(tmp_path):
    log = SqliteLog(tmp_path / "log.db", lambda: 0)
    log.create("t", 2)
    log.send([Record("t", None, b"x", partition=1)] * 5)
    one = service(log, positions=lambda: {("t", 0): 0, ("t", 1): 2})
    assert one.lags() == {("t", "0"): 0.0, ("t", "1"): 3.0}
    one.ends.close()
    log.close()


def test_waiting_is_healthy_and_not_ready(tmp_path):
    """A dependency that comes back makes the job ready again."""
    stop, tries = Stop(), Counter()
    one = service(None, liveness=stop.liveness)
    told = []

    def call():
        tries["call"] += 1
        told.append((one.sick(), one.unready()))
        if tries["call"] < 3:
            raise UnavailableError("cassandra://c1/k: write failed")
        return "done"

    assert retrying(call, stop) == "done"
    assert told[0] == ("", "")
    assert all(sick == "" for sick, _ in told)
    assert re.fullmatch(r"ingest: waiting for 0\.\d s: cassandra://c1/k: write failed", told[1][1])
    assert (one.unready(), stop.liveness.retries) == ("", 2)


def test_a_silent_loop_is_sick():
    liveness = Liveness()
    liveness.seen_s -= 61
    assert service(None, liveness=liveness).sick() == "ingest: no sign of life from the main loop for 61 s (limit 60 s)"


def test_a_job_without_partitions_is_not_ready_until_it_stands_by():
    liveness = Liveness()
    one = service(None, liveness=liveness, positions=dict)
    assert one.unready() == "ingest: waiting for partitions to be assigned"
    liveness.began_s -= 31
    assert one.unready() == ""


def test_an_address_that_is_not_ours_is_a_clear_error():
    with pytest.raises(SettingsError, match=r"--metrics 192\.0\.2\.1:9464: can't listen there"):  # noqa: SIM117
        with served(Address("192.0.2.1", 9464), service(None)):
            pass


def test_a_json_line_has_what_is_known():
    record = logging.LogRecord("headrace.x", logging.INFO, "", 1, "is %d", (3,), None)
    record.created, record.partition, record.offsets = 1_767_225_600.5, 2, {2: 7}
    line = json.loads(JsonFormatter("ingest").format(record))
    assert line == {
        "ts": "2026-01-01T00:00:00.500Z",
        "level": "INFO",
        "logger": "headrace.x",
        "job": "ingest",
        "message": "is 3",
        "partition": 2,
        "offsets": {"2": 7},
    }
