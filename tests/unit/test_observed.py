"""Observed returns: complete episodes by hand, rewards per step where none ends, and how often intervals are right."""

import numpy as np
import pytest
from judge_examples import transitions

from headrace.learners.judge.observed import observed_returns
from headrace.learners.judge.statistics import ratio_interval


def test_only_complete_episodes_of_one_version_count():
    """e0 earns 3, e1 5; e2 misses a step, e3 has not ended, e4 has two versions, e5 began before."""
    episode = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    step = [0, 1, 0, 1, 0, 2, 0, 1, 0, 1, 4, 5]
    ended = np.array([0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1], np.bool_)
    version = np.array([1] * 8 + [1, 2] + [1, 1])
    batch = transitions([0] * 12, episode, step, [1, 2, 2, 3, *[9] * 8], truncated=ended, policy_version=version)
    first, second = observed_returns([batch])
    assert (first.version, first.measure, first.mean) == (1, "return", 4.0)
    assert (first.episodes, first.agents, first.rows) == (2, 1, 11)
    assert (first.high - 4.0) / (1.0) == pytest.approx(12.706205, rel=1e-6)  # t, 1 degree of freedom; deviation sqrt(2)
    assert (second.version, second.measure, second.mean, second.low) == (2, "reward per step", 9.0, None)


def test_an_episode_may_lie_in_several_batches_in_any_order():
    batch = transitions(
        [0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1], [1, 2, 3, 4], terminated=np.array([0, 1, 0, 1], np.bool_)
    )
    pieces = [batch.take(np.array([place])) for place in (3, 0, 2, 1)]
    assert observed_returns(pieces) == observed_returns([batch])
    assert observed_returns([batch])[0].mean == 5.0


def test_without_complete_episodes_it_is_the_reward_per_step():
    """Pieces of 2 and of 1 row: 6 in 3 rows. The version is -1 where rows name none."""
    batch = transitions([0, 0, 1], [0, 0, 0], [7, 8, 7], [1, 2, 3])
    (found,) = observed_returns([batch])
    assert (found.version, found.measure, found.mean, found.episodes, found.rows) == (-1, "reward per step", 2, 0, 3)


def test_a_ratio_of_equal_clusters_has_the_interval_of_a_mean():
    """1, 2, 3 by 1 each: t(2 df, .975) = 4.302653."""
    found = ratio_interval(np.array([1.0, 2.0, 3.0]), np.ones(3))
    assert (found.mean, found.high) == pytest.approx((2.0, 2.0 + 4.302653 / 3**0.5), rel=1e-6)


@pytest.mark.parametrize("agents", [1, 20])
def test_intervals_cover_the_true_mean(agents):
    """Of 400, by one agent's episodes or by agents that differ among themselves: within 3.5 errors of 95 %."""
    rng, covered = np.random.default_rng(agents), 0
    for _ in range(400):
        agent = np.tile(np.arange(agents), 240 // agents)
        own = rng.normal(0, 1, agents) if agents > 1 else np.zeros(1)
        reward = rng.exponential(1.0, 240) + own[agent]
        batch = transitions(agent, np.arange(240), np.zeros(240), reward, terminated=np.ones(240, np.bool_))
        (found,) = observed_returns([batch])
        covered += found.low <= 1.0 <= found.high
    assert covered / 400 == pytest.approx(0.95, abs=0.038)
