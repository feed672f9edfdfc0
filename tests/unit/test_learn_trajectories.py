"""Rows of a stream become trajectories: ordered, each row once, and cut wherever a step is missing."""

import dataclasses

import numpy as np
import pytest

from headrace.learners import ppo
from headrace.learners.checkpoint import weights_hash
from headrace.learners.ppo.rows import _continues, prepared, with_inputs
from headrace.learners.ppo.stream import parts_of
from headrace.learners.stream.algorithms import algorithm, begun
from headrace.learners.stream.training import LearnSettings
from headrace.learners.stream.trajectories import rollout_of, spanning
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import TransitionBatch

NAMES = ("a0", "a1", "a2")


def rows(places, **columns):
    """Rows at (agent, episode, step); the reward says in which order they came."""
    agent, episode, step = (np.array(column) for column in zip(*places, strict=True))
    count = len(places)
    known = {
        "agent": agent.astype(np.int32),
        "episode": episode.astype(np.int32),
        "step": step.astype(np.int64),
        "ts": np.zeros(count, np.int64),
        "offset": np.arange(count),
        "obs": np.stack([agent, episode, step], axis=1).astype(np.float32),
        "action": np.zeros(count, np.int32),
        "reward": np.arange(count, dtype=np.float32),
        "next_obs": np.stack([agent, episode, step + 1], axis=1).astype(np.float32),
        "terminated": np.zeros(count, np.bool_),
        "truncated": np.zeros(count, np.bool_),
        "reward_terms": np.zeros((count, 0), np.float32),
        "policy_version": np.full(count, -1),
        "log_prob": np.full(count, -1.0, np.float32),
    }
    return TransitionBatch("t", NAMES, ("e0", "e1", "e2"), **(known | columns))


def test_rows_by_hand():
    """Two agents mixed up, a gap in one, an episode that ends and one that begins: cut where nothing follows."""
    places = [(1, 0, 4), (0, 0, 1), (0, 0, 0), (1, 0, 5), (0, 0, 3), (1, 1, 6), (0, 0, 4)]
    found = rollout_of(rows(places), 100, version=0, newest=9)
    assert found.reward[:, 0].tolist() == [2, 1, 4, 6, 0, 3, 5]
    assert found.truncated[:, 0].tolist() == [False, True, False, True, False, True, True]
    assert found.present is None
    assert found.obs.shape == (7, 1, 3)


def test_what_the_producer_ended_stays_ended():
    places = [(0, 0, 0), (0, 0, 1), (0, 0, 2)]
    ended = rows(places, terminated=np.array([False, True, False]), truncated=np.array([True, False, False]))
    found = rollout_of(ended, 100, version=0, newest=9)
    assert found.terminated[:, 0].tolist() == [False, True, False]
    assert found.truncated[:, 0].tolist() == [True, False, True]
    assert not _continues(found).any()


def test_a_repeated_row_counts_once_and_the_first_stays():
    found = rollout_of(rows([(0, 0, 1), (0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 0)]), 100, version=0, newest=9)
    assert found.reward[:, 0].tolist() == [1, 0, 3]
    assert found.truncated[:, 0].tolist() == [False, False, True]


def test_steps_that_recur_at_other_times_are_rows_of_their_own():
    """An episode's name used twice: by event time, cut where the steps begin anew; another agent's stays by step."""
    places = [(0, 0, 1), (0, 0, 0), (0, 0, 0), (0, 0, 1), (1, 0, 1), (1, 0, 0), (0, 0, 0)]
    ts = np.array([20, 10, 30, 40, 5, 7, 30])
    found = rollout_of(rows(places, ts=ts), 100, version=0, newest=9)
    assert found.reward[:, 0].tolist() == [1, 0, 2, 3, 5, 4]
    assert found.truncated[:, 0].tolist() == [False, True, False, True, False, True]


def test_all_rows_of_agents_that_name_no_episode_are_learned_from():
    """Two agents, twenty episodes of five steps, all named alike."""
    places = [(agent, 0, i % 5) for i in range(100) for agent in range(2)]
    found = rollout_of(rows(places, ts=np.arange(200) // 2 * 1_000), 50, version=0, newest=9)
    assert found.reward.size == 200
    assert found.present is None
    assert (~_continues(found)).sum() == 40


def test_a_rollout_of_many_rollouts_rows_is_split_by_columns():
    """Each part has columns of all agents, every row is in one of them, and no trajectory is cut anew."""
    whole = rollout_of(rows([(agent, 0, step) for agent in range(3) for step in range(20)]), 5, version=0, newest=9)
    parts = parts_of(whole, 5)
    assert [part.reward.shape for part in parts] == [(5, 3), (5, 3), (5, 2), (5, 2), (5, 2)]
    assert sorted(np.concatenate([part.reward.ravel() for part in parts]).tolist()) == list(range(60))
    assert set(parts[0].obs[..., 0].ravel().tolist()) == {0, 1, 2}
    assert sum(int((~_continues(part)).sum()) for part in parts) == int((~_continues(whole)).sum())


def test_a_window_of_many_rollouts_is_as_many_updates():
    """Of 1,700 rows at 400 a rollout: four updates, none of whose rows is too old; and the same ones again."""
    spec = TaskSpec(task="t", observations=("x", "y", "z"), actions=("a", "b"), window_ms=1_000)
    config = dataclasses.replace(algorithm("ppo").streamed, hidden=(8,), minibatch_size=64, age_max=1)
    given, told = rows([(agent, 0, step) for agent in range(2) for step in range(850)]), []
    first, second = (
        begun(config, spec, 0, LearnSettings(rollout_rows=400, rollout_steps=20), told.append) for _ in range(2)
    )
    for training in (first, second):
        training.take([(given, 0)])
        assert (training.updates, training.held_rows) == (4, 0)
    assert [metrics["dropped_share"] for metrics in told] == [0.0] * 8
    assert weights_hash(first.policy_arrays()) == weights_hash(second.policy_arrays())


def test_columns_are_filled_one_after_another():
    """Five rows in columns of two: the last is padded with numbers that are finite and not there."""
    found = rollout_of(rows([(0, 0, step) for step in range(5)]), 2, version=0, newest=9)
    assert found.reward.T.tolist() == [[0, 1], [2, 3], [4, 4]]
    assert found.present.T.tolist() == [[True, True], [True, True], [True, False]]
    assert _continues(found).T.tolist() == [[True, False], [True, False], [False, False]]


def test_the_order_is_that_of_names_not_of_codes():
    """What else a chunk's dictionaries held when it was read must not show: it may have grown since."""
    given = rows([(0, 0, 0), (1, 1, 0), (2, 0, 0), (1, 0, 1)])
    codes = np.array([2, 0, 1], np.int32)  # of a0, a1, a2 in another dictionary; likewise the episodes
    other = dataclasses.replace(
        given,
        agents=("a1", "a2", "a0"),
        episodes=("e1", "e2", "e0"),
        agent=codes[given.agent],
        episode=codes[given.episode],
    )
    for mine, yours in zip(rollout_of(given, 5, 0, 9), rollout_of(other, 5, 0, 9), strict=True):
        np.testing.assert_array_equal(mine, yours)


def test_a_version_that_there_cannot_be_counts_as_none():
    """Else one agent that sends its build's number makes everybody's rows too old."""
    version = np.array([7, 2**63 - 1, 5])
    found = rollout_of(rows([(0, 0, step) for step in range(3)], policy_version=version), 100, version=20, newest=9)
    assert (20 - found.version[:, 0]).tolist() == [1, 8, 3]


def test_ages_count_from_the_newest_that_acts():
    """It is one version behind the learner; rows that name none are older than version 1."""
    version = np.array([7, 5, -1, 0])
    found = rollout_of(rows([(0, 0, step) for step in range(4)], policy_version=version), 100, version=20, newest=19)
    assert (20 - found.version[:, 0]).tolist() == [1, 3, 8, 8]
    none = rollout_of(rows([(0, 0, 0)]), 100, version=20, newest=19)
    assert (20 - none.version[:, 0]).tolist() == [1]


@pytest.mark.parametrize("seed", range(20))
def test_no_trajectory_crosses_a_gap(seed):
    """Of any rows in any order: a row goes on to the same episode's next step, and does so wherever it can."""
    rng = np.random.default_rng(seed)
    every = [(agent, episode, step) for agent in range(3) for episode in range(3) for step in range(12)]
    picked = rng.permutation(len(every))[: rng.integers(1, len(every))]
    given = [every[i] for i in (*picked, *picked[: rng.integers(0, 5)])]
    terminated = rng.random(len(given)) < 0.1
    steps = int(rng.integers(1, 30))
    found = rollout_of(rows(given, terminated=terminated), steps, version=0, newest=9)
    obs, next_obs = column_of(found, "obs"), column_of(found, "next_obs")
    continues = _continues(found).T.reshape(-1)[: len(obs)]
    assert sorted(map(tuple, obs.astype(int).tolist())) == sorted(set(given))
    ended = found.terminated.T.reshape(-1)[: len(obs)]
    for i in range(len(obs) - 1):
        linked = (next_obs[i] == obs[i + 1]).all() and not ended[i] and (i + 1) % steps
        assert continues[i] == bool(linked)
    assert not continues[-1]


def column_of(rollout, name):
    values = np.swapaxes(getattr(rollout, name), 0, 1).reshape(-1, 3)
    return values if rollout.present is None else values[rollout.present.T.reshape(-1)]


def test_the_order_of_arrival_does_not_matter_for_what_is_learned():
    """Pieces of a window may come mixed up; but for repeated rows the rollout is the same."""
    rng = np.random.default_rng(0)
    places = [(agent, 0, step) for agent in range(3) for step in range(8)]
    one = rows(places)
    other = one.take(rng.permutation(len(places)))
    for mine, yours in zip(rollout_of(one, 5, 0, 9), rollout_of(other, 5, 0, 9), strict=True):
        assert (mine is None) == (yours is None)
        if mine is not None:
            np.testing.assert_array_equal(mine, yours)


def test_a_gap_is_bootstrapped_and_not_crossed():
    """What follows a gap has no part in the advantages before it."""
    config = ppo.PPOConfig(
        hidden=(8,), critic_hidden=(8,), minibatch_size=8, normaliser_rows=1, normalise_advantages=False
    )
    places = [(0, 0, step) for step in (0, 1, 2, 5, 6, 7)]
    advantages = []
    state = ppo.init(config, 3, 2, seed=0)
    for reward in (0.0, 1e3):
        given = rows(places)
        after = np.where(given.step > 2, reward, given.reward).astype(np.float32)
        rollout = rollout_of(dataclasses.replace(given, reward=after), 100, 0, 9)
        _, found, _ = prepared(with_inputs(state, rollout), rollout)
        advantages.append(found.advantage)
    np.testing.assert_array_equal(advantages[0][:3], advantages[1][:3])
    assert (advantages[0][3:] != advantages[1][3:]).any()


def test_rewards_over_three_steps_by_hand():
    """Four steps, a gap after the third: rewards 1, 2, 4, 8 at half the discount; the last say that they span less."""
    given = rows([(0, 0, 1), (0, 0, 0), (0, 0, 2), (0, 0, 4)], reward=np.float32([2, 1, 4, 8]))
    found = spanning(given, 3, 0.5)
    assert found.obs[:, 2].tolist() == [0, 1, 2, 4]
    assert found.reward.tolist() == [1 + 1 + 1, 2 + 2, 4, 8]
    assert found.steps.tolist() == [3, 2, 1, 1]
    assert found.next_obs[:, 2].tolist() == [3, 3, 3, 5]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("n", [1, 2, 5])
def test_rewards_span_as_defined(seed, n):
    """A row's sum goes on while the same episode's next step is there and neither ended nor was cut."""
    rng = np.random.default_rng(seed)
    every = [(agent, episode, step) for agent in range(2) for episode in range(2) for step in range(10)]
    given = [every[i] for i in rng.permutation(len(every))[: rng.integers(1, len(every))]]
    ends = rng.random((2, len(given))) < 0.15
    batch = rows(given, terminated=ends[0], truncated=ends[1])
    found = spanning(batch, n, 0.9)
    at = {place: i for i, place in enumerate(given)}
    for i, place in enumerate(sorted(given)):
        agent, episode, step = place
        path = [at[place]]
        while len(path) < n and not ends[:, path[-1]].any() and (agent, episode, step + len(path)) in at:
            path.append(at[agent, episode, step + len(path)])
        assert found.steps[i] == len(path)
        assert found.reward[i] == pytest.approx(sum(0.9**k * batch.reward[row] for k, row in enumerate(path)), rel=1e-6)
        assert found.terminated[i] == ends[0, path[-1]]
        np.testing.assert_array_equal(found.next_obs[i], batch.next_obs[path[-1]])
