"""Ingest on Kafka, Cassandra and Redis, killed with SIGKILL at random points."""

import random
import time

import numpy as np
import pytest
from fault_stack import told, wait_until
from messages import TASKS, random_records

START_MS = 1_760_000_000_000
"""The records' event time: in the past of every append time, so that each run judges them alike."""
AHEAD_MS = 10 * 365 * 86_400_000


def loaded(new_stack, count):
    """A stack whose log holds tasks and many mixed messages, none ingested."""
    stack = new_stack()
    stack.initialise(TASKS)
    records = [record for _, record in random_records(np.random.default_rng(7), count, START_MS, AHEAD_MS)]
    with stack.services() as services:
        services.log.send(records)
    return stack


@pytest.mark.parametrize(("kills", "count"), [(6, 10_000), pytest.param(60, 120_000, marks=pytest.mark.long)])
def test_sigkill_at_random_points(new_stack, kills, count):
    """Whenever it was killed: the rows, last windows and rejections of an undisturbed run, and of SQLite's."""
    undisturbed, stack = loaded(new_stack, count), loaded(new_stack, count)
    began_s = time.monotonic()
    undisturbed.run("run", "ingest", "--until-caught-up")
    undisturbed_s = time.monotonic() - began_s
    expected = undisturbed.outcome()
    assert len(expected.windows) > 1_000
    assert len(expected.rejected) > count // 20
    assert stack.on_sqlite() == expected

    rng = random.Random(kills)
    at_work = moved = 0
    for kill in range(kills):
        before = stack.committed()
        job = stack.start("run", "ingest").ready()
        if kill % 4:  # else it may still be joining the group
            wait_until(lambda before=before: stack.committed() > before or not stack.lag(), 60, job.told)
        time.sleep(rng.uniform(0, 0.3))
        at_work += stack.lag() > 0
        moved += stack.committed() > before
        job.kill()
        assert "Traceback" not in job.told(), job.told()

    began_s = time.monotonic()
    stack.run("run", "ingest", "--until-caught-up")
    told(
        "ingest killed",
        kills=kills,
        at_work=at_work,
        moved=moved,
        messages=count,
        windows=len(expected.windows),
        told=len(stack.read("windows")),
        rejected=len(expected.rejected),
        undisturbed_s=undisturbed_s,
        last_run_s=time.monotonic() - began_s,
    )
    assert stack.outcome() == expected
    assert at_work > kills // 3, "too few kills fell into its work"
