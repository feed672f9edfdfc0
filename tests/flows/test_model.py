"""Section 3 of the design as a model: kills between any two writes, zombies and random folds change nothing.

The real `Ingest` runs on a log and an index in memory that die at random.
"""

import functools
import random

import msgspec
import numpy as np
import pytest
from messages import T0, TASKS, random_records
from model import MARK, Crash, Fate, MemoryIndex, MemoryLog, NoCache

from headrace.pipelines.ingest.job import Ingest
from headrace.pipelines.ingest.storing import COMMIT_FOLDS
from headrace.schemas.ports import Record
from headrace.schemas.records import Layout

LAYOUT = Layout(log="model", segment=16, grace_ms=200, sample_every=4)


def empty_log(partitions=2):
    log = MemoryLog(now_ms=T0)
    log.create("transitions", partitions)
    for topic in ("tasks", "windows", "transitions.rejected"):
        log.create(topic, 1)
    return log


def new_log(seed, count=160):
    log = empty_log()
    log.send([Record("tasks", spec.task.encode(), msgspec.json.encode(spec)) for spec in TASKS])
    for now, record in random_records(np.random.default_rng(seed), count):
        log.now_ms = now
        log.send([record])
        if seed % 2 and now % 7 == 0:
            log.rows["transitions", now % 2].append(MARK)
    return log


def new_ingest(log, index, rng, chance=0.0, **options):
    """An ingest whose clock makes folds due at random, and which may die at any write."""
    fate = Fate(rng, chance)
    ingest = Ingest(
        log,
        index.connect(fate),
        NoCache(),
        LAYOUT,
        poll_messages=rng.choice((9, 90)),
        until_caught_up=True,
        timer=lambda: rng.random() * 3,
        **options,
    )
    ingest.reading.member.subscription.port.fate = fate
    return ingest


def turn(ingest):
    """Run the dataflow's steps once; False when the source has ended."""
    try:
        items = ingest.poll()
    except StopIteration:
        return False
    # Bytewax hands an operator everything that the one before it made of a batch, at once.
    for _, step in ingest.steps():
        items = [made for item in items for made in step(item)]
    ingest.store(items)
    return True


def finish(ingest):
    while turn(ingest):
        pass


def outcome(log, index):
    """What must be equal: the index's rows, each window's last summary, the rejected messages, the decisions."""
    windows = {key: value for key, value, _, _ in log.rows["windows", 0]}
    rejected = sorted((headers, value or b"") for _, value, headers, _ in log.rows["transitions.rejected", 0])
    rows = {
        key: (row.rows, row.received, row.checksum, row.payload, row.stats, row.write_time)
        for key, row in index.rows.items()
    }
    return rows, dict(index.window_rows), windows, rejected, dict(index.decision_rows)


@functools.cache
def undisturbed(seed):
    log, index = new_log(seed), MemoryIndex()
    finish(new_ingest(log, index, random.Random(0)))
    return outcome(log, index)


def check_equal(found, expected):
    for part, wanted in zip(found, expected, strict=True):
        assert part == wanted


def check_told_once(log):
    told = [(key, value) for key, value, _, _ in log.rows["windows", 0]]
    assert len(told) == len(set(told)), "an identical message came twice"


@pytest.mark.parametrize("seed", range(25))
def test_kills_between_any_two_writes(seed):
    """Whatever write the process dies before or after, the rows, windows and rejections are the same in the end."""
    expected = undisturbed(seed)
    assert len(expected[-1]) > 10, "decisions were sampled"
    rng = random.Random(seed)
    log, index = new_log(seed), MemoryIndex()
    kills = 0
    while True:
        ingest = new_ingest(log, index, rng, chance=0.04)
        try:
            finish(ingest)
            break
        except Crash:
            kills += 1
    assert kills
    check_equal(outcome(log, index), expected)
    check_told_once(log)


@pytest.mark.parametrize("seed", range(15))
def test_zombies(seed):
    """A process that was replaced and wakes up again writes what it likes, and changes nothing.

    Some of those whose commit is refused die of it, others join again.
    """
    expected = undisturbed(seed)
    rng = random.Random(1_000 + seed)
    log, index = new_log(seed), MemoryIndex()
    crew = [new_ingest(log, index, rng) for _ in range(3)]
    conflicts = 0
    for _ in range(5_000):
        place = rng.randrange(len(crew))
        if not turn(crew[place]):
            break
        if crew[place].reading.member.fenced:
            conflicts += 1
            if rng.random() < 0.5:
                crew[place] = new_ingest(log, index, rng)
    finish(new_ingest(log, index, rng))
    for zombie in crew:
        while turn(zombie):
            conflicts += zombie.reading.member.fenced
    assert conflicts
    check_equal(outcome(log, index), expected)
    check_told_once(log)


def test_members_that_lose_their_partitions():
    """Members who all believe that they have every partition: one whose commit is refused takes them anew."""
    assert sum(map(lost_partitions, range(15))), "a commit was refused"


def lost_partitions(seed):
    """Run three members on one log; returns how often one was refused."""
    expected = undisturbed(seed)
    rng = random.Random(2_000 + seed)
    log, index = new_log(seed), MemoryIndex()
    crew = [new_ingest(log, index, rng) for _ in range(3)]
    for member in crew:
        member.reading.member.subscription.port.loses = True
    refused = 0
    while crew:
        member = rng.choice(crew)
        if not turn(member):
            crew.remove(member)
        refused += member.reading.member.fenced
    finish(new_ingest(log, index, rng))
    check_equal(outcome(log, index), expected)
    check_told_once(log)
    return refused


@pytest.mark.parametrize("seed", range(10))
def test_a_rebuild_that_is_killed_rejects_nothing_twice(seed):
    """The log is read again from its start, which moves the commit back; killed on the way, and gone on without."""
    expected = undisturbed(seed)
    rng = random.Random(3_000 + seed)
    log, index = new_log(seed), MemoryIndex()
    finish(new_ingest(log, index, rng))
    rebuild = new_ingest(log, index, rng, from_start=True)
    for _ in range(rng.randrange(1, 8)):
        turn(rebuild)
    finish(new_ingest(log, index, rng))
    check_equal(outcome(log, index), expected)


def test_only_so_many_folds_wait_for_one_commit():
    """However slowly the clock goes."""
    log, index = new_log(0, count=640), MemoryIndex()
    ingest = new_ingest(log, index, random.Random(0))
    ingest.storing.timer = lambda: 0.0
    most = 0
    while turn(ingest):
        most = max(most, len(ingest.storing.waiting))
    assert most == COMMIT_FOLDS


@pytest.mark.parametrize("seed", range(10))
def test_rows_that_arrive_while_it_runs(seed):
    """Folding while the log grows, with restarts, gives what one run over the whole log gives."""
    expected = undisturbed(seed)
    rng = random.Random(seed)
    whole = new_log(seed)
    log, index = empty_log(), MemoryIndex()
    log.rows["tasks", 0] = whole.rows["tasks", 0]
    while any(len(log.rows["transitions", p]) < len(whole.rows["transitions", p]) for p in range(2)):
        for p in range(2):
            have = len(log.rows["transitions", p])
            log.rows["transitions", p] += whole.rows["transitions", p][have : have + rng.randint(0, 30)]
        finish(new_ingest(log, index, rng))
    check_equal(outcome(log, index), expected)
    check_told_once(log)
