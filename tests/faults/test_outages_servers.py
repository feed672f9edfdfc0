"""Kafka, Cassandra or Redis away for a while, ingest under load: nothing lost, and the job catches up by itself."""

import time

import pytest
from fault_load import TASK, Load
from fault_stack import told, wait_until
from redis import Redis

SHORT_S, LONG_S = 7, 30
BEFORE_S = 3
MEMORY_MB = 120
"""By how much the job may grow in an outage."""
OUTAGES = [("Kafka", "stop"), ("Cassandra", "pause"), ("Redis", "stop")]
MORE = [("Kafka", "pause"), ("Cassandra", "stop"), ("Redis", "pause")]


class Watch:
    """The job's memory, looked at while the time goes by."""

    def __init__(self, job):
        self.job = job
        self.peak_mb = 0

    def look(self):
        assert self.job.running, self.job.told()
        self.peak_mb = max(self.peak_mb, self.job.memory_mb())

    def wait(self, seconds):
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.look()
            time.sleep(0.1)

    def until(self, reached, within_s, explain=str):
        def looked():
            self.look()
            return reached()

        return wait_until(looked, within_s, lambda: f"{explain()}\n{self.job.told()}")


@pytest.mark.parametrize(
    ("name", "how", "seconds"),
    [(*outage, SHORT_S) for outage in OUTAGES]
    + [pytest.param(*outage, LONG_S, marks=pytest.mark.long) for outage in OUTAGES + MORE],
)
def test_an_outage_under_load(servers, new_stack, name, how, seconds):
    server = next(one for one in servers if one.name == name)
    stack = new_stack()
    stack.initialise([TASK], segment=1_024)
    with Load(stack) as load:
        job = stack.start("run", "ingest").ready()
        watch = Watch(job)
        watch.until(lambda: stack.committed() > 0, 60)
        watch.wait(BEFORE_S)
        before_mb, watch.peak_mb = watch.peak_mb, 0
        try:
            getattr(server, how)()
            watch.wait(seconds)
        finally:
            if how == "pause":
                server.resume()
            server.start()
        if name == "Redis":
            redis_client(server).flushall()
        back_s = time.monotonic()
        target = load.sent
        watch.until(
            lambda: stack.committed() >= target,
            60,
            lambda: f"{stack.committed()} of {stack.end()} on the log, {target} wanted",
        )
        caught_up_s = time.monotonic() - back_s
        watch.until(lambda: cached(servers[2], stack) > 0, 20)
    watch.until(lambda: not stack.lag(), 60)
    job.stop()
    warnings = job.told().count("WARNING")
    told(
        f"{name} {how}, {seconds} s",
        messages=load.sent,
        caught_up_s=caught_up_s,
        memory_before_mb=before_mb,
        memory_peak_mb=watch.peak_mb,
        warnings=warnings,
        cached=cached(servers[2], stack),
    )
    assert stack.end() == load.sent
    outcome = stack.outcome()
    assert outcome == stack.on_sqlite()
    assert outcome.windows
    assert watch.peak_mb < before_mb + MEMORY_MB


def cached(server, stack):
    """How many entries the cache holds."""
    return len(redis_client(server).keys(f"{stack.prefix}:*"))


def redis_client(server):
    return Redis(host=server.host, port=server.port, socket_timeout=10)
