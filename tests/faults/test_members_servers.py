"""Processes that freeze, come and go at work: each is overtaken by another one, wakes up, and joins again."""

import email
import email.policy
import random
import re
import signal
import threading
import time
from collections import Counter

import msgspec
import pytest
from fault_load import TASK, Load
from fault_stack import told, wait_until
from test_kill_learn_servers import EXPLAIN, LEARN, learned, policies, reports

from headrace.schemas.ports import Record
from headrace.schemas.records import Fact, Facts, Mail, Narrative, Report, Sentence

PARTITIONS = 4
DIGEST = ("run", "digest", "--cron", "*/2 * * * * *")
"""A slot every other second."""


WINDOWS = 5
"""Of 6,400 transitions each: four make a version."""
MEMBERS = {"learn": 2, "explain": 4, "digest": 2}
"""Of two processes: explain follows two topics."""


def overtaken(stack, one, command, group, *, works):
    """Freeze a job; another one takes over, and works; the first wakes up and joins again; then the other is killed.

    works: waits while the other one does. Returns the seconds from the wake-up until both were members.
    """
    one.send(signal.SIGSTOP)
    successor = stack.start(*command).ready()
    wait_until(lambda: "is ours" in successor.told(), 60, successor.told)
    works()
    one.send(signal.SIGCONT)
    woken_s = wait_until(lambda: stack.members(group) == MEMBERS[group] or not one.running, 60, one.told)
    assert one.running, one.told()
    assert successor.running, successor.told()
    successor.kill()  # so that the one that woke has to do the rest
    return round(woken_s, 1)


def overtaken_somewhere(stack, one, command, group, rng, longest_s):
    """The same after a while, and for a while."""
    time.sleep(rng.uniform(0, longest_s))
    return overtaken(stack, one, command, group, works=lambda: time.sleep(rng.uniform(0, longest_s)))


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


@pytest.fixture(scope="module")
def undisturbed(new_stack):
    return learned(new_stack(), WINDOWS)


@pytest.mark.parametrize("rounds", [0, pytest.param(4, marks=pytest.mark.long)])
def test_a_zombie_learner_undoes_nothing(undisturbed, rounds):
    """Versions, lineage, what was announced, the checkpoint: those of a learner that nobody disturbed.

    At the last it has made a version and not announced it when it freezes, and the other one announces it.
    """
    stack = undisturbed.stack
    expected = policies(stack, undisturbed.store)
    stack.forget("learn", "policies")
    store = f"{stack.urls['policies']}z{rounds}"
    stack.run("init", "--policies", store)
    command, rng = (*LEARN, "--policies", store), random.Random(rounds)
    one = stack.start(*command).ready()
    wait_until(lambda: "is ours" in one.told(), 60, one.told)
    woken_s = [overtaken_somewhere(stack, one, command, "learn", rng, undisturbed.learn_s / 4) for _ in range(rounds)]
    wait_until(lambda: "cloud@1:" in one.told(), 60, one.told)
    woken_s += [overtaken(stack, one, command, "learn", works=lambda: wait_until(lambda: stack.read("policies"), 60))]
    one.stop()
    stack.run(*command, "--until-caught-up")
    told("zombie learner", rounds=rounds, woken_s=woken_s, refused_commits=one.told().count("must join again"))
    assert policies(stack, store) == expected


@pytest.mark.parametrize("rounds", [2, pytest.param(8, marks=pytest.mark.long)])
def test_a_zombie_explainer_reports_nothing_twice(undisturbed, rounds):
    """Every report comes once, and says what an undisturbed run's says."""
    stack, command = undisturbed.stack, (*EXPLAIN, "--policies", undisturbed.store)
    began_s = time.monotonic()
    stack.run(*command, "--until-caught-up")
    took_s = time.monotonic() - began_s
    expected = reports(stack)
    stack.forget("explain", "reports")
    rng = random.Random(rounds)
    one = stack.start(*command).ready()
    wait_until(lambda: "is ours" in one.told(), 60, one.told)
    woken_s = [overtaken_somewhere(stack, one, command, "explain", rng, took_s / 4) for _ in range(rounds)]
    one.stop()
    stack.run(*command, "--until-caught-up")
    told("zombie explainer", rounds=rounds, woken_s=woken_s, refused_commits=one.told().count("must join again"))
    assert reports(stack) == expected


class Reporting(threading.Thread):
    """Appends reports, numbered from 1 on, until it is told to stop."""

    def __init__(self, stack):
        super().__init__()
        self._stack = stack
        self._end = threading.Event()
        self.sent = 0

    def run(self):
        with self._stack.services() as services:
            while not self._end.wait(0.25):
                services.log.send([_report(self.sent + 1)])
                self.sent += 1

    def stop(self):
        self._end.set()
        self.join()


def _report(number):
    facts = Facts("valve", f"v{number}", (Fact("version.policy", "this version", number, "version"),))
    narrative = Narrative("template", Sentence("{version.policy} serves now"), ())
    made = Report(f"valve.version.{number}", "valve", "version", 0, 0, number, facts, narrative, {})
    return Record("reports", made.report_id.encode(), msgspec.json.encode(made), partition=number % 2)


def _mailed(folder):
    """How often each report was mailed."""
    found = Counter()
    for path in folder.glob("*.eml"):
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        text = " ".join(mail.get_body(("plain",)).get_content().split())
        told = " ".join(re.findall(r"v\d+ serves|came to serve in this period \([^)]*\)", text))
        found.update({int(number) for number in re.findall(r"v(\d+)", told)})
    return found


@pytest.mark.parametrize("rounds", [3, pytest.param(12, marks=pytest.mark.long)])
def test_a_zombie_digest_mails_nothing_twice(new_stack, rounds):
    """Each report is in one mail, and the outbox says of every mail that it was sent."""
    stack = new_stack()
    folder = stack.folder / "mail"
    stack.environment["HEADRACE_MAIL"] = f"file://{folder}"
    stack.initialise()
    rng = random.Random(rounds)
    writing = Reporting(stack)
    writing.start()
    try:
        one = stack.start(*DIGEST).ready()
        wait_until(lambda: _mailed(folder), 60, one.told)
        woken_s = [overtaken_somewhere(stack, one, DIGEST, "digest", rng, 2) for _ in range(rounds)]
    finally:
        writing.stop()
    wait_until(lambda: len(_mailed(folder)) == writing.sent, 60, one.told)
    one.stop()
    refused = one.told().count("must join again")
    told("zombie digest", rounds=rounds, reports=writing.sent, woken_s=woken_s, refused_commits=refused)
    assert set(_mailed(folder).values()) == {1}
    last = {mail.digest_id: mail.state for mail in map(_outbox_mail, stack.read("mails"))}
    assert set(last.values()) == {"sent"}
    assert len(last) == len([*folder.glob("*.eml")])


def _outbox_mail(message):
    return msgspec.json.decode(message.value(), type=Mail)


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
