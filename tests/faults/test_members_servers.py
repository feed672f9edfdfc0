"""Ingest processes that freeze, come and go while the load goes on."""

import random
import signal
import time

import pytest
from fault_load import TASK, Load
from fault_stack import told, wait_until

PARTITIONS = 4


@pytest.mark.parametrize("rounds", [3, pytest.param(8, marks=pytest.mark.long)])
def test_a_zombie_undoes_nothing(new_stack, rounds):
    """One is frozen at work for longer than its session; another takes over; then the first wakes up.

    What it held back is refused or changes nothing, and it joins again: in the end both share the partitions.
    """
    stack = new_stack()
    stack.initialise([TASK], partitions=PARTITIONS, segment=256)
    rng = random.Random(rounds)
    taken_over_s, woken_s = [], []
    with Load(stack) as load:
        one = stack.start("run", "ingest").ready()
        wait_until(lambda: stack.committed() > 0, 60, one.told)
        for _ in range(rounds):
            time.sleep(rng.uniform(0.5, 1.5))
            one.send(signal.SIGSTOP)
            frozen_at = load.sent
            successor = stack.start("run", "ingest").ready()
            taken_over_s.append(wait_until(lambda at=frozen_at: stack.committed() > at, 60, successor.told))
            time.sleep(rng.uniform(0, 1))
            one.send(signal.SIGCONT)
            woken_s.append(wait_until(lambda: stack.members() == 2 or not one.running, 60, one.told))
            assert one.running, one.told()
            assert successor.running, successor.told()
            successor.send(signal.SIGKILL)  # so that the one that woke has to do all of the work
            successor.process.wait()
            sent = load.sent
            wait_until(lambda at=sent: stack.committed() >= at, 60, one.told)
    wait_until(lambda: not stack.lag(), 60, one.told)
    one.stop()
    assert "Traceback" not in one.told(), one.told()
    told(
        "zombie",
        rounds=rounds,
        messages=load.sent,
        taken_over_s=[round(s, 1) for s in taken_over_s],
        woken_s=[round(s, 1) for s in woken_s],
        refused_commits=one.told().count("must join again"),
    )
    assert stack.outcome() == stack.on_sqlite()


@pytest.mark.parametrize("seconds", [15, pytest.param(60, marks=pytest.mark.long)])
def test_workers_come_and_go(new_stack, seconds):
    """Every other second one starts, is stopped, or is killed."""
    stack = new_stack()
    stack.initialise([TASK], partitions=PARTITIONS, segment=256)
    rng = random.Random(seconds)
    started = stopped = killed = 0
    with Load(stack) as load:
        jobs = [stack.start("run", "ingest").ready()]
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            time.sleep(rng.uniform(0.5, 1.5))
            for job in jobs:
                assert job.running, job.told()
            if len(jobs) == 1 or (len(jobs) < 3 and rng.random() < 0.5):
                jobs.append(stack.start("run", "ingest"))
                started += 1
            elif rng.random() < 0.3:
                jobs.pop(rng.randrange(len(jobs))).kill()
                killed += 1
            else:
                jobs.pop(rng.randrange(len(jobs))).stop()
                stopped += 1
    behind = stack.lag()
    caught_up_s = wait_until(lambda: not stack.lag(), 60, jobs[0].told)
    for job in jobs:
        job.stop()
    told(
        "workers come and go",
        seconds=seconds,
        started=started,
        stopped=stopped,
        killed=killed,
        messages=load.sent,
        behind=behind,
        caught_up_s=caught_up_s,
    )
    assert stack.outcome() == stack.on_sqlite()
