"""What agents earned since a canary began, and the record that ends it."""

import re

import msgspec
import numpy as np
import pytest

from headrace.learners.judge.canary import UNITS, Found, Tally
from headrace.learners.judge.sequential import Look
from headrace.pipelines.learn.canary import at_window, ended
from headrace.pipelines.learn.progress import Progress
from headrace.schemas.canary import Canary, in_share
from headrace.schemas.records import ServingPolicy
from headrace.schemas.transition import TransitionBatch

CANARY = Canary(4, "4", 0.5)
BEGAN = ServingPolicy("pump", 3, "3", "ann", "is it better live?", 1_000, canary=CANARY)
NAMES = tuple(f"pump-{number}" for number in range(40))
TRIES = np.array([in_share(CANARY, "pump", name) for name in NAMES])


def rows(reward, version, ended=False, agents=NAMES):
    count = len(agents)
    column = np.arange(count, dtype=np.int32)
    obs = np.zeros((count, 1), np.float32)
    flags = np.full(count, ended)
    reward, version = (np.broadcast_to(value, count) for value in (reward, version))
    return TransitionBatch(
        "pump", agents, ("e",), column, column * 0, column.astype(np.int64), column.astype(np.int64), column, obs,
        column, reward.astype(np.float32), obs, flags, flags & False, obs[:, :0], version.astype(np.int64), obs[:, 0],
    )  # fmt: skip


def test_only_rows_by_the_version_that_the_agent_was_to_act_by_count():
    tally = Tally(BEGAN)
    tally.saw(rows(2.0, np.where(TRIES, 4, 3)))
    tally.saw(rows(5.0, np.where(TRIES, 3, 4)))  # who acts by the other one yet
    tally.saw(rows(7.0, -1))  # or by a rule
    assert {tuple(sums) for sums in [*tally.canary.values(), *tally.others.values()]} == {(2.0, 0.0, 1.0)}
    assert (len(tally.canary), len(tally.others)) == (TRIES.sum(), (~TRIES).sum())


def test_it_compares_by_rows_until_an_episode_ends_and_a_checkpoint_keeps_it():
    tally, acted = Tally(BEGAN, windows=1), np.where(TRIES, 4, 3)
    tally.saw(rows(np.where(TRIES, 1.0, 3.0), acted))
    assert (tally.found().measure, tally.found().look.difference) == ("reward per step", -2.0)
    tally.saw(rows(np.where(TRIES, 1.0, 3.0), acted, ended=True))
    tally = msgspec.convert(msgspec.json.decode(msgspec.json.encode(tally)), Tally)
    assert (tally.found().measure, tally.found().look.difference) == ("return", -4.0)


def test_many_agents_take_no_more_room():
    tally, names = Tally(BEGAN), tuple(f"a{number}" for number in range(12_000))
    tally.saw(rows(1.0, 4, agents=names))
    tally.saw(rows(1.0, 3, agents=names))
    assert max(len(tally.canary), len(tally.others)) <= UNITS
    assert sum(count for *_, count in [*tally.canary.values(), *tally.others.values()]) == len(names)


@pytest.mark.parametrize(
    ("interval", "canary", "version", "words"),
    [
        ((-3.0, -1.0), CANARY, 3, "pump@4 is worse than pump@3: return -2 (-3 to -1, 95 % at all looks together), 5 a"),
        ((1.0, 3.0), CANARY, 3, "better than pump@3: .*; `headrace policy promote pump@4` lets it serve all"),
        ((1.0, 3.0), Canary(4, "4", 0.5, promote=True), 4, "better than pump@3: return .* after 6 windows"),
        ((-1.0, 3.0), CANARY, None, ""),
        ((-1.0, 3.0), Canary(4, "4", 0.5, windows=6, promote=True), 3, "is not shown to differ from"),
        (None, Canary(4, "4", 0.5, windows=6), 3, "too little to compare by, after 6 windows"),
        (None, Canary(4, "4", 0.5, windows=7), None, ""),
    ],
)
def test_what_ends_a_canary(interval, canary, version, words):
    began = msgspec.structs.replace(BEGAN, canary=canary, held=True)
    found = interval and Found("return", Look(sum(interval) / 2, *interval, (5, 35)))
    record = ended(Tally(began, windows=6), found, 9_000)
    if version is None:
        assert record is None
        return
    assert (record.version, record.weights_hash) == (version, str(version))
    assert (record.decided_by, record.ts, record.canary, record.held) == ("canary", 9_000, None, True)
    assert re.search(words.replace("(", r"\(").replace(")", r"\)"), record.reason)


def test_windows_count_that_were_appended_after_it_began():
    progress = Progress(seen=BEGAN)
    assert progress.holding == BEGAN
    for append_ms, version, begun, windows in (
        *((900, 4, False, 0), (1_000, 4, False, 0)),  # of its time none has come
        *((1_001, 3, True, 0), (1_002, 4, True, 0), (990, 4, True, 1)),  # its agents act from the second on
    ):
        found = at_window(progress, append_ms, lambda: 0)
        tally = progress.canary
        assert (tally.begun, tally.windows, found is None) == (begun, windows, True)
        if begun:
            tally.saw(rows(1.0, version))
    assert len(tally.others) == 0
    progress.seen = msgspec.structs.replace(BEGAN, canary=None)  # a person has ended it
    at_window(progress, 2_000, lambda: 0)
    assert (progress.canary, progress.pending, progress.holding) == (None, [], None)
