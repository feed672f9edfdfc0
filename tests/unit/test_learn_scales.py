"""Observations and rewards of any scale, absurd ones among them: what networks see of them, and that they learn."""

import dataclasses

import numpy as np
import pytest
import torch

from headrace.learners import dqn
from headrace.learners.acting import Policy
from headrace.learners.checkpoint import pack, unpack
from headrace.learners.dqn.replay import Batch
from headrace.learners.nets.normaliser import Moments, carry_over, merged, no_moments, typical_distance
from headrace.learners.nets.rewards import RewardScale
from headrace.learners.stream.algorithms import algorithm, begun
from headrace.learners.stream.training import LearnSettings
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import TransitionBatch

EVER = 10**9


pytestmark = pytest.mark.usefixtures("one_thread")


def normal(rows, seed=0, width=1):
    return np.random.default_rng(seed).normal(2.0, 3.0, (rows, width)).astype(np.float32)


@pytest.mark.parametrize("absurd", [1e6, -1e10, 3e38])
@pytest.mark.parametrize("first", [True, False])
def test_a_few_absurd_values_hardly_move_the_moments(absurd, first):
    """Three of 1,000 rows, in the first batch or a later one."""
    rows = normal(1_000)
    moments = no_moments(1) if first else merged(no_moments(1), normal(1_000, 1), EVER)
    rows[[3, 30, 300]] = absurd
    found = merged(moments, rows, EVER)
    assert found.mean[0] == pytest.approx(2.0, abs=0.3)
    assert found.scale[0] == pytest.approx(3.0, abs=0.6)


def test_what_is_common_is_not_absurd():
    """A twentieth of the rows, however far off, is data."""
    rows = np.zeros((1_000, 1), np.float32)
    rows[::20] = 1e4
    assert merged(no_moments(1), rows, EVER).scale[0] == pytest.approx(rows.std(), rel=1e-6)


@pytest.mark.parametrize(("size", "offset", "seen"), [(1e-5, 0.0, 1e-5), (1e-5, 1.0, 1e-5), (1e6, 0.0, 1e6)])
def test_a_column_of_any_scale_is_seen(size, offset, seen):
    column = offset + size * np.random.default_rng(0).normal(size=(2_000, 1))
    assert merged(no_moments(1), column, EVER).scale[0] == pytest.approx(seen, rel=0.05)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e9])
def test_a_column_that_varies_by_rounding_alone_keeps_scale_1(value):
    column = np.full((500, 1), value) * (1.0 + 1e-8 * np.random.default_rng(0).normal(size=(500, 1)))
    assert merged(no_moments(1), column, EVER).scale[0] == 1.0


def test_later_rows_count_a_fixed_share():
    """With rows_max of 100 before, 100 rows more are half of the mean, by Chan's formula of the variance."""
    before = Moments(1_000, np.zeros(1), np.full(1, 1_000.0))
    found = merged(before, np.full((100, 1), 2.0), 100)
    assert (found.rows, found.mean[0]) == (200, 1.0)
    assert found.square[0] == pytest.approx(100.0 + 4.0 * 50.0)


def test_the_typical_distance_is_the_median_of_those_that_are_not_0():
    offsets = np.array([[0, 0, -3], [0, 0, 1], [-2, 0, 2], [5, 0, 4], [3, 0, -9]], float)
    assert typical_distance(offsets).tolist() == [3.0, 0.0, 3.0]


def test_a_layer_carried_over_gives_the_same_outputs():
    """By the new moments, to rounding."""
    before, after = (
        Moments(10, np.array([1.0, -2.0]), np.array([40.0, 90.0])),
        Moments(10, np.zeros(2), np.full(2, 30.0)),
    )
    weight, bias = torch.randn(2, 5), torch.randn(5)
    obs = torch.randn(20, 2, dtype=torch.float64)
    expected = ((obs - torch.tensor(before.mean)) / torch.tensor(before.scale)).float() @ weight + bias
    carry_over(before, after, weight, bias)
    found = ((obs - torch.tensor(after.mean)) / torch.tensor(after.scale)).float() @ weight + bias
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rewards", "mean", "size"),
    [
        ([1.0, 1.0, 1.0, 1.0], 1.0, 1.0),  # constant: of the size of the reward itself
        ([0.0, 0.0, 0.0, 0.0], 0.0, 0.0),
        ([-1.0, -1.0, -0.9999999, -1.0000001], -1.0, 1.0),  # constant but for rounding, as of sums over steps
        ([-1.0, 1.0, -1.0, 1.0], 0.0, 1.0),
        ([4e6, 0.0, 0.0, 0.0], 1e6, 2e6),  # (9 + 3) / (3 + 3) millions
        ([0.0] * 99 + [1e-3], 1e-5, 5e-4),
    ],
)
def test_the_first_scale_of_rewards_by_hand(rewards, mean, size):
    found = RewardScale().moved(np.float32(rewards), 1.0)
    assert found == pytest.approx((mean, size), rel=1e-5)


def test_absurd_rewards_hardly_move_their_scale_and_are_cut_off():
    rewards = np.random.default_rng(0).normal(1.0, 1.0, 1_000).astype(np.float32)
    plain = RewardScale().moved(rewards, 1.0)
    rewards[[3, 30]] = 1e20
    found = RewardScale().moved(rewards, 1.0)
    assert found == pytest.approx(plain, rel=0.3)
    assert found.moved(rewards, 1.0) == pytest.approx(plain, rel=0.3)
    assert found.cut(rewards).max() == pytest.approx(found.mean + 100 * found.size)
    np.testing.assert_array_equal(found.cut(rewards)[4:30], rewards[4:30])


def test_values_come_out_in_the_tasks_unit():
    """Rewards a million times as great give values a million times as great, and the same training."""
    outputs, errors = [], []
    for size in (1.0, 1e6):
        state = dqn.init(dqn.DQNConfig(hidden=(8,), batch_size=64, learning_rate_steps=100), 2, 2, seed=0)
        rng = np.random.default_rng(0)
        for _ in range(100):
            obs, action = rng.normal(size=(64, 2)).astype(np.float32), rng.integers(2, size=64)
            reward = (size * (action == (obs[:, 0] > 0))).astype(np.float32)
            state, metrics = dqn.update(state, Batch(obs, action, reward, obs, rng.random(64) < 0.5))
        outputs.append(Policy(dqn.policy_arrays(state)).q_values(obs) / size)
        errors.append(metrics["td_abs"] / size)
    assert errors[0] == pytest.approx(errors[1], rel=1e-2)
    np.testing.assert_allclose(*outputs, rtol=1e-2, atol=1e-3)


def signs(rows, scale, reward_scale):
    """One-step episodes that pay for the sign of x."""
    rng, place = np.random.default_rng(0), np.arange(rows)
    obs, action = rng.uniform(-1.0, 1.0, (rows, 2)), rng.integers(2, size=rows)
    reward = reward_scale * (action == (obs[:, 0] > 0))
    return TransitionBatch(
        task="signs",
        agents=("a",),
        episodes=("e",),
        agent=np.zeros(rows, np.int32),
        episode=np.zeros(rows, np.int32),
        step=place,
        ts=place,
        offset=place,
        obs=(scale * obs).astype(np.float32),
        action=action.astype(np.int32),
        reward=reward.astype(np.float32),
        next_obs=(scale * obs).astype(np.float32),
        terminated=np.ones(rows, np.bool_),
        truncated=np.zeros(rows, np.bool_),
        reward_terms=np.zeros((rows, 0), np.float32),
        policy_version=np.full(rows, -1),
        log_prob=np.full(rows, -np.log(2.0), np.float32),
    )


CASES = {
    "plain": {},
    "absurd_observations": {"obs": 1e10},
    "absurd_rewards": {"reward": -1e10},
    "small_features": {"scale": 1e-5},
    "great_rewards": {"reward_scale": 1e6},
    "small_rewards": {"reward_scale": 1e-6},
}


@pytest.mark.parametrize("kind", ["dqn", "ppo"])
@pytest.mark.parametrize("case", CASES)
def test_a_streamed_learner_learns_at_any_scale(kind, case):
    """The reward is for the sign of x; three rows of the first hundred are absurd. Nothing is skipped."""
    changed = CASES[case]
    rows = signs(12_000, changed.get("scale", 1.0), changed.get("reward_scale", 1.0))
    for name in ("obs", "reward"):
        if name in changed:
            getattr(rows, name)[[5, 50, 95]] = changed[name]
    more = {"hidden": (32,), "minibatch_size": 128} if kind == "ppo" else {"hidden": (32,)}
    spec = TaskSpec(task="signs", observations=("x", "y"), actions=("minus", "plus"), window_ms=1_000)
    settings = LearnSettings(learning_starts=500, rollout_rows=2_000, samples_per_row=12.0, gate="none")
    training = begun(dataclasses.replace(algorithm(kind).streamed, **more), spec, 0, settings)
    for start in range(0, len(rows), 2_000):
        training.take([(rows.slice(start, start + 2_000), 0)])
    clean = rows.obs[1_000:]
    right = Policy(training.policy_arrays()).q_values(clean).argmax(axis=1) == (clean[:, 0] > 0)
    assert right.mean() > 0.95
    assert training.counts.skipped_updates == 0


def test_features_are_learned_with_on_the_stream():
    """A DQN whose network sees sums of the observation too; its checkpoint is gone on from."""
    kind, features = algorithm("dqn"), np.float32([[1.0], [-1.0]])
    state = dqn.init(dqn.DQNConfig(hidden=(8,), batch_size=64), 2, 2, 0, features=features)
    settings = LearnSettings(learning_starts=200, min_rows=100)
    training = kind.training(state, "signs", settings, lambda _: None)
    training.take([(signs(1_000, 1.0, 1.0), 0)])
    restored = kind.load(*unpack(pack(*training.state_to_arrays())))
    obs = np.float32([[0.3, -0.2], [1e9, 0.0]])
    expected = Policy(training.policy_arrays()).q_values(obs)
    assert training.updates > 50
    np.testing.assert_array_equal(Policy(dqn.policy_arrays(restored)).q_values(obs), expected)
    assert np.abs(expected).max() < 100
