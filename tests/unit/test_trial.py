"""A trial plays a policy as agents act by it: one of values greedily, a softmax by draws that are always the same."""

import numpy as np

from headrace.learners import dqn, ppo
from headrace.learners.acting import Policy
from headrace.learners.cloud import ACTION_NAMES, OBSERVATION_NAMES
from headrace.learners.explain.simulation import simulator
from headrace.learners.judge.trial import as_acting, policy_trial

WORLD = simulator("headrace/CloudService-v0", 32, 5)
SIZES = (len(OBSERVATION_NAMES), len(ACTION_NAMES))


def played(policy):
    return np.concatenate(list(policy_trial(WORLD, policy)))


def test_a_policy_of_values_is_played_greedily():
    policy = Policy(dqn.policy_arrays(dqn.init(dqn.DQNConfig(hidden=(8,)), *SIZES, seed=0)))
    assert as_acting(policy) is policy
    np.testing.assert_array_equal(played(policy), WORLD.outcomes(policy).returns)


def test_a_softmax_is_played_by_draws():
    """Nearly uniform logits are not their greatest: twice the same draws, and not the greedy policy's returns."""
    policy = Policy(ppo.policy_arrays(ppo.init(ppo.PPOConfig(hidden=(8,)), *SIZES, seed=0)))
    np.testing.assert_array_equal(played(policy), played(policy))
    assert (played(policy) != WORLD.outcomes(policy).returns).all()


def test_draws_follow_the_distribution():
    policy = Policy(ppo.policy_arrays(ppo.init(ppo.PPOConfig(hidden=(8,)), *SIZES, seed=0)))
    obs = np.ones((40_000, SIZES[0]), np.float32)
    logits = policy.q_values(obs[:1])[0]
    shares = np.bincount(as_acting(policy).q_values(obs).argmax(axis=1), minlength=SIZES[1]) / len(obs)
    np.testing.assert_allclose(shares, np.exp(logits) / np.exp(logits).sum(), atol=0.01)
