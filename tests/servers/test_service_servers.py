"""Jobs as services on Kafka, Cassandra and Redis that hang: an end in time, and an endpoint that says why."""

import time
import uuid

import pytest
from running import Running

from headrace.pipelines.cli.run import JOBS

OPTIONS = {"fleet": ("--agents", "8", "--every", "0.2"), "digest": ("--cron", "* * * * *"), "learn": ("--gate", "none")}


@pytest.fixture
def stack(servers, tmp_path):
    """Return a function that starts a job; each test has topics and a keyspace of its own."""
    kafka, cassandra, redis = servers
    name = f"s{uuid.uuid4().hex[:10]}"
    keyspace = f"cassandra://{cassandra.host}:{cassandra.port}/{name}"
    urls = {
        "HEADRACE_LOG": f"{kafka.url}/{name}",
        "HEADRACE_INDEX": keyspace,
        "HEADRACE_POLICIES": keyspace,
        "HEADRACE_CACHE": f"{redis.url}?prefix={name}:",
    }
    jobs = []

    def start(job, *options):
        jobs.append(Running(tmp_path, job, *options, **urls))
        return jobs[-1]

    start.run = lambda *arguments: Running.run(tmp_path, *arguments, **urls)
    start.run("init", "--segment", "64")
    yield start
    for job in jobs:
        job.kill()


@pytest.mark.parametrize("name", ["Kafka", "Cassandra", "Redis"])
def test_sigterm_ends_every_job_while_a_server_hangs(servers, stack, name):
    """All five are at work when the server freezes; a second later they are told to stop."""
    server = next(one for one in servers if one.name == name)
    stack.run("run", "fleet", "--windows", "2", "--agents", "8")
    jobs = [stack(job, *OPTIONS.get(job, ())) for job in JOBS]
    for job in jobs:
        job.until(lambda job: job.get("/readyz")[0] == 200)
    ingest = jobs[0].until(lambda job: job.samples().get(("headrace_ingest_windows_written_total",)))
    try:
        server.pause()
        time.sleep(1)
        for job in jobs:
            job.terminate()
        took = {job.log.name: job.ended() for job in jobs}
    finally:
        server.resume()
    print(name, took)
    assert max(took.values()) < 5
    again = stack("ingest")
    again.until(lambda job: job.get("/readyz")[0] == 200)
    again.until(lambda job: all(v == 0 for (n, *_), v in job.samples().items() if n == "headrace_lag_messages"))
    assert again.end() < 5
    assert "Traceback" not in ingest.told()


@pytest.mark.parametrize("name", ["Kafka", "Cassandra"])
def test_a_server_that_hangs_is_named_and_its_return_is_noticed(servers, stack, name):
    """Meanwhile a scrape answers in time, and the job stays healthy."""
    server = next(one for one in servers if one.name == name)
    fleet, ingest = stack("fleet", *OPTIONS["fleet"]), stack("ingest")
    ingest.until(lambda job: job.samples().get(("headrace_ingest_windows_written_total",)))
    try:
        server.pause()
        ingest.until(lambda job: job.get("/readyz")[0] == 503, 40)
        told = ingest.get("/readyz")[1]
        before = time.monotonic()
        found = ingest.samples()
        scrape_s = time.monotonic() - before
        healthy = ingest.get("/healthz")
    finally:
        server.resume()
    assert f"{name.lower()}://" in told
    assert healthy == (200, "ok\n")
    assert scrape_s < 5  # 1 is what it waits for the log
    assert found["headrace_ready",] == 0
    ingest.until(lambda job: job.get("/readyz")[0] == 200)
    assert "recovered after" in ingest.told()
    fleet.end()
    ingest.end()
