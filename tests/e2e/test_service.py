"""Jobs as services: metrics, health, logs and an end in time, with the embedded backends."""

import contextlib
import json
import re
import socket
import sqlite3
import time
from importlib import import_module

import pytest
from running import Running
from shell import transitions

from headrace.pipelines.cli.run import JOBS
from headrace.pipelines.service.service import EVERY_JOB, LAG

JOB_OPTIONS = {"fleet": ("--every", 600, "--agents", 2), "digest": ("--cron", "0 0 1 1 *"), "learn": ("--gate", "none")}


@pytest.fixture
def start(shell):
    jobs = []

    def begin(*arguments, **environment):
        jobs.append(Running(shell.folder, *arguments, **environment))
        return jobs[-1]

    yield begin
    for job in jobs:
        job.kill()


def test_what_ingest_has_done_can_be_scraped(shell, start):
    shell.prepare()
    rows = transitions(100)
    bad = [b"{", json.dumps({**rows[0], "obs": [1.0]}).encode()]
    shell.write("some.jsonl", [*(json.dumps(row).encode() for row in rows), *bad])
    shell.json("produce", "some.jsonl", "--close")
    job = start("ingest", "--metrics", "127.0.0.1:0")
    lag = ("headrace_lag_messages", ("partition", "0"), ("topic", "transitions"))
    found = job.until(lambda job: job.samples().get(lag) == 0).samples()
    assert found["headrace_ingest_transitions_total", ("task", "valve")] == 100
    assert found["headrace_ingest_messages_total",] == 100 + 2 + 2, "--close sends a heartbeat to each partition"
    rejected = {labels[0][1]: v for (name, *labels), v in found.items() if name.endswith("rejected_messages_total")}
    assert rejected == {"syntax": 1, "width": 1}
    assert found["headrace_ingest_windows_written_total",] > 0
    assert found["headrace_ingest_partitions",] == 2
    assert found["headrace_ingest_batch_seconds_count",] >= 2
    assert 0 < found["headrace_ingest_write_seconds_sum",] <= found["headrace_ingest_batch_seconds_sum",]
    assert found["headrace_info", ("name", "ingest"), ("version", "0.1.0")] == 1
    assert (job.get("/healthz"), job.get("/readyz")) == ((200, "ok\n"), (200, "ok\n"))
    assert job.get("/")[0] == 404
    job.end()


@pytest.fixture(scope="module")
def stream(new_shell):
    """Five windows of a fleet, ingested."""
    shell = new_shell()
    shell.json("init", "--segment", 64)
    shell.json("run", "fleet", "--windows", 5, "--every", 0, "--metrics", "off")
    shell.json("run", "ingest", "--until-caught-up", "--metrics", "off")
    return shell


@pytest.mark.parametrize("name", JOBS)
def test_a_job_exports_its_table(stream, name):
    job = Running(stream.folder, name, *JOB_OPTIONS.get(name, ()))
    try:
        job.until(lambda job: job.get("/readyz")[0] == 200)
        own = import_module(f"headrace.pipelines.{'report' if name == 'digest' else name}.metrics").METRICS
        tables = (*own, *EVERY_JOB, *(() if name == "fleet" else (LAG,)))
        _, text = job.get("/metrics")
        told = {found for found in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE) if found.startswith("headrace_")}
        assert told == {metric.name for metric in tables}
        if name == "learn":
            examine_learner(job)
        job.end()
    finally:
        job.kill()


def examine_learner(job):
    """It learns from the stream until a candidate is promoted."""
    task, promoted = ("task", "cloud"), ("verdict", "promoted")
    found = job.until(lambda job: value(job, "headrace_learn_candidates_total", promoted)).samples()
    assert found["headrace_learn_transitions_total", task] >= 6_400
    assert found["headrace_learn_policy_version", task] >= 1
    assert found["headrace_learn_window_to_policy_seconds_count", task] > 0
    assert found["headrace_learn_transition_to_policy_seconds_bucket", ("le", "86400.0"), task] == 0, "simulated"
    assert found["headrace_cache_requests_total", ("level", "memory"), ("result", "miss")] > 0


def test_each_job_finds_a_port_of_its_own(stream):
    jobs = [Running(stream.folder, "digest") for _ in range(2)]
    try:
        addresses = {job.address for job in jobs}
        assert len(addresses) == 2
        assert all(address.startswith("127.0.0.1:") for address in addresses)
    finally:
        for job in jobs:
            job.kill()


def value(job, name, *labels):
    return job.samples().get((name, ("task", "cloud"), *labels))


def test_an_address_that_is_taken_is_an_error_and_off_serves_nothing(shell, start):
    shell.prepare()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = shell("run", "ingest", "--until-caught-up", "--metrics", f"127.0.0.1:{port}", code=1)
        assert f"--metrics 127.0.0.1:{port}: can't listen there".encode() in done.stderr
        variable = {"HEADRACE_METRICS": f"127.0.0.1:{port}"}
        done = shell("run", "ingest", "--until-caught-up", code=1, environment=variable)
        assert b"can't listen" in done.stderr
    assert b"HOST:PORT" in shell("run", "ingest", "--metrics", "9464", code=1).stderr
    assert b"/metrics" not in shell("run", "ingest", "--until-caught-up", "--metrics", "off").stderr


def test_nothing_but_loopback_is_listened_on(shell, start):
    shell.prepare()
    job = start("ingest")
    port = int(job.address.rpartition(":")[2])
    with contextlib.closing(socket.socket()) as client:
        client.settimeout(5)
        with pytest.raises(OSError, match="refused"):
            client.connect((own_address(), port))
    job.end()


def own_address():
    """An address of this machine that is not 127.0.0.1; where it has no other, one of the loopback network."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.2"


@pytest.mark.parametrize("by", ["option", "variable"])
def test_logs_as_json(shell, start, by):
    """Each line on stderr is an object; partitions are fields; an error at the end is one too."""
    shell.prepare()
    shell.write("some.jsonl", transitions(20))
    shell.json("produce", "some.jsonl", "--close")
    options = ("--log-format", "json") if by == "option" else ()
    environment = {"HEADRACE_LOG_FORMAT": "json"} if by == "variable" else {}
    job = start("ingest", "-v", *options, **environment).until(lambda job: '"committed' in job.told())
    job.end()
    lines = [json.loads(line) for line in job.told().splitlines()]
    assert {line["job"] for line in lines} == {"ingest"}
    assert all({"ts", "level", "logger", "message"} <= line.keys() for line in lines)
    ours = [line for line in lines if " is ours" in line["message"]]
    assert sorted((line["topic"], line["partition"], line["offset"]) for line in ours) == [
        ("transitions", 0, 0),
        ("transitions", 1, 0),
    ]
    committed = [line for line in lines if "offsets" in line]
    assert committed[0]["level"] == "DEBUG"
    done = shell("query", "windows", "--task", "no", *options, environment=environment, code=1)
    (error,) = map(json.loads, done.stderr.splitlines())
    assert (error["level"], error["job"]) == ("ERROR", "query windows")


def test_a_format_that_is_none_is_an_error(shell):
    assert b"known: text, json" in shell("task", "list", code=1, environment={"HEADRACE_LOG_FORMAT": "xml"}).stderr


@pytest.mark.parametrize("name", JOBS)
def test_sigterm_ends_a_job_whose_log_hangs(shell, start, name):
    """Another process holds the database: a write waits for it inside SQLite, where no signal is heard of."""
    shell.json("init")
    shell.json("run", "fleet", "--windows", 1, "--agents", 2, "--metrics", "off")
    if name != "ingest":
        shell.json("run", "ingest", "--until-caught-up", "--metrics", "off")
    options = {"digest": ("--cron", "* * * * *"), "fleet": ("--every", 0, "--agents", 2)}.get(name, ())
    with holding(shell.folder / ".headrace" / "log.db"):
        job = start(name, *options).until(lambda job: "is ready" in job.told())
        time.sleep(0.5)
        assert job.end() < 5
    if name == "learn":  # its last commit would wait for 5 s
        assert "not stopped within 4 s of SIGTERM" in job.told()


@contextlib.contextmanager
def holding(path):
    """Hold the write lock of a database."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_an_outage_is_told_of(shell, start):
    """While the index is locked ingest is healthy, not ready, and says why; then it recovers and loses nothing."""
    shell.prepare()
    shell.write("some.jsonl", transitions(100))
    shell.json("produce", "some.jsonl", "--close")
    with holding(shell.folder / ".headrace" / "index.db"):
        job = start("ingest", "--metrics", "127.0.0.1:0")
        job.until(lambda job: "index.db" in job.get("/readyz")[1], 30)  # not "starting", which is a 503 too
        assert job.get("/readyz")[0] == 503
        assert job.get("/healthz") == (200, "ok\n")
        assert job.samples()["headrace_ready",] == 0
        assert job.samples()["headrace_dependency_retries_total",] >= 1
    job.until(lambda job: job.get("/readyz")[0] == 200)
    assert "INFO recovered after" in job.told()
    job.until(lambda job: job.samples()["headrace_lag_messages", ("partition", "0"), ("topic", "transitions")] == 0)
    job.end()
    assert len(shell.lines("query", "transitions", "--task", "valve")) == 100
