"""Off-policy evaluation: values that are known, what is refused, and that nothing but the rows matters."""

import dataclasses

import numpy as np
import pytest
from judge_examples import transitions

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.judge.data import NEEDED_ROWS, judge_by_data
from headrace.learners.judge.ope import evaluated, interval_of
from headrace.pipelines.learn.by_data import newest_references
from headrace.pipelines.learn.progress import Progress
from headrace.schemas.records import ChunkReference, LineageEntry

DISCOUNT = 0.9


def always(action, actions=2, width=2):
    bias = np.where(np.arange(actions) == action, 9.0, -9.0).astype(np.float32)
    return Policy({"logits.weight": np.zeros((width, actions), np.float32), "logits.bias": bias})


def two_rooms(seed=0, episodes=120, choose=lambda rng, n: rng.integers(2, size=n)):
    """Action 1 goes to room 1, action 0 to room 0; room 1 pays 1, and nothing ends. Episodes are cut after 20 steps."""
    rng, steps = np.random.default_rng(seed), 20
    action = choose(rng, episodes * steps).reshape(episodes, steps)
    room = np.concatenate([np.zeros((episodes, 1), int), action], axis=1)
    seen = np.eye(2, dtype=np.float32)[room]
    step = np.tile(np.arange(steps), episodes)
    return transitions(
        np.zeros(episodes * steps),
        np.repeat(np.arange(episodes), steps),
        step,
        action.ravel(),
        obs=seen[:, :-1].reshape(-1, 2),
        next_obs=seen[:, 1:].reshape(-1, 2),
        action=action.ravel().astype(np.int32),
        truncated=step == steps - 1,
    )


def test_values_by_hand():
    """To stay in room 1 earns 1 / (1 - 0.9) = 10, never to go there 0, and to toss a coin 5."""
    coin = Policy({"logits.weight": np.zeros((2, 2), np.float32), "logits.bias": np.zeros(2, np.float32)})
    found = evaluated(two_rooms(), [always(1), always(0), coin, None], 2, DISCOUNT, seed=0)
    means = [values.mean() for values in found.values]
    assert means == pytest.approx([10.0, 0.0, 5.0, 5.0], abs=0.3)
    assert found.groups == 20
    assert found.effective[2] == pytest.approx(1_200)
    assert found.effective[0] == pytest.approx(1_200, abs=120)


def test_what_ends_earns_no_more():
    """Each episode ends with its only step, which pays 3."""
    count = 200
    rows = transitions(
        np.zeros(count),
        np.arange(count),
        np.zeros(count),
        np.full(count, 3.0),
        obs=np.ones((count, 2), np.float32),
        next_obs=np.ones((count, 2), np.float32),
        terminated=np.ones(count, np.bool_),
    )
    assert evaluated(rows, [always(0)], 2, DISCOUNT, seed=0).values[0].mean() == pytest.approx(3.0, abs=0.02)


def test_continuous_actions():
    """The reward is 1 - (a - obs)²: a mean of obs earns 1 less the variance of its draws, of 2 * obs less."""
    rng, count = np.random.default_rng(0), 4_000
    obs, action = rng.uniform(-1, 1, (2, count, 1)).astype(np.float32)
    rows = transitions(
        np.zeros(count),
        np.arange(count),
        np.zeros(count),
        1 - np.square(action - obs)[:, 0],
        obs=obs,
        next_obs=obs,
        action=action,
        terminated=np.ones(count, np.bool_),
    )
    policies = [
        BoxPolicy(
            {
                "mean.weight": np.full((1, 1), gain, np.float32),
                "mean.bias": np.zeros(1, np.float32),
                "log_std": np.log(np.full(1, 0.1, np.float32)),
            }
        )
        for gain in (1.0, -1.0)
    ]
    found = evaluated(rows, policies, 0, DISCOUNT, seed=0)
    assert [values.mean() for values in found.values] == pytest.approx([0.99, 1 - 4 / 3 - 0.01], abs=0.06)


def test_only_the_rows_matter_not_their_order_nor_their_codes():
    rows = two_rooms()
    shuffled = rows.take(np.random.default_rng(1).permutation(len(rows)))
    names = dataclasses.replace(
        shuffled, episodes=shuffled.episodes[::-1], episode=np.int32(len(rows.episodes) - 1) - shuffled.episode
    )
    one, other = (evaluated(batch, [always(1)], 2, DISCOUNT, seed=0).values[0] for batch in (rows, names))
    np.testing.assert_array_equal(one, other)


def test_an_interval_by_hand():
    """Deviation 1 of 1, 2, 3 and t(19 df, .975) = 2.093024, times 1.3."""
    found = interval_of(np.array([1.0, 2.0, 3.0]), groups=20)
    assert found == pytest.approx((2.0, 2.0 - 1.3 * 2.093024, 2.0 + 1.3 * 2.093024), rel=1e-6)


def test_the_gate_accepts_what_is_better_alone():
    rows = two_rooms()
    better = judge_by_data(rows, always(1), always(0), 2, DISCOUNT)
    assert better.accepted
    assert better.difference.mean == pytest.approx(10.0, abs=0.1)
    assert better.returns.keys() == {"policy", "serving"}
    assert "beats the serving policy by fitted Q evaluation" in better.reason
    assert not judge_by_data(rows, always(0), always(1), 2, DISCOUNT).accepted
    equal = judge_by_data(rows, always(1), always(1), 2, DISCOUNT)
    assert not equal.accepted
    assert "not shown" in equal.reason
    first = judge_by_data(rows, always(1), None, 2, DISCOUNT)
    assert first.accepted
    assert first.returns["agents"] == pytest.approx(5.0, abs=0.3)


def test_what_was_never_tried_is_not_judged():
    """Nobody took action 1: what it would do is not known, however many rows there are."""
    rows = two_rooms(choose=lambda _, n: np.zeros(n, int))
    found = judge_by_data(rows, always(1), None, 2, DISCOUNT)
    assert not found.accepted
    assert f"effective sample size 0 of the {NEEDED_ROWS} needed" in found.reason
    few = judge_by_data(two_rooms(episodes=10), always(1), None, 2, DISCOUNT)
    assert few.reason == f"can't be judged by data yet: 200 rows of the {NEEDED_ROWS} needed"
    assert "0 rows of" in judge_by_data(None, always(1), None, 2, DISCOUNT).reason
    assert "65 actions" in judge_by_data(rows, always(1), None, 65, DISCOUNT).reason


def test_the_newest_rows_judge_each_chunk_once():
    """A chunk that has grown counts as it is now; of those that are held and those learned from, the newest."""
    held, grown, last = (ChunkReference("t", 0, start, 0, 0, 0, rows, 1) for start, rows in ((0, 50), (0, 80), (9, 30)))
    progress = Progress(inserted=[(held, 0)], lineage=[LineageEntry(grown, 50, 0), LineageEntry(last, 0, 1)])
    assert newest_references(progress, 1_000) == [grown, last]
    assert newest_references(progress, 30) == [last]
