"""CartPole from rows of random play alone: a policy that ends much later than random play does."""

import gymnasium
import numpy as np
import pytest
import torch

from headrace.learners.acting import Policy
from headrace.learners.stream.algorithms import algorithm, begun
from headrace.learners.stream.training import LearnSettings
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import TransitionBatch

SPEC = TaskSpec(task="cartpole", observations=("x", "v", "angle", "turn"), actions=("left", "right"), window_ms=1_000)


def played(rows, seed):
    """Rows of one agent that acts at random."""
    environment, rng, kept, episode, step = gymnasium.make("CartPole-v1"), np.random.default_rng(seed), [], 0, 0
    obs, _ = environment.reset(seed=seed)
    for action in rng.integers(2, size=rows):
        after, reward, terminated, truncated, _ = environment.step(action)
        kept.append((episode, step, obs, action, reward, after, terminated, truncated))
        obs, step = after, step + 1
        if terminated or truncated:
            (obs, _), episode, step = environment.reset(), episode + 1, 0
    episodes, steps, obs, action, reward, after, terminated, truncated = map(np.array, zip(*kept, strict=True))
    return TransitionBatch(
        task="cartpole",
        agents=("a",),
        episodes=tuple(f"e{i}" for i in range(episode + 1)),
        agent=np.zeros(rows, np.int32),
        episode=episodes.astype(np.int32),
        step=steps,
        ts=np.arange(rows),
        offset=np.arange(rows),
        obs=obs.astype(np.float32),
        action=action.astype(np.int32),
        reward=reward.astype(np.float32),
        next_obs=after.astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        reward_terms=np.zeros((rows, 0), np.float32),
        policy_version=np.full(rows, -1),
        log_prob=np.full(rows, -np.log(2.0), np.float32),
    )


def length(policy, seed):
    """How long a greedy episode is."""
    environment, steps, done = gymnasium.make("CartPole-v1"), 0, False
    obs, _ = environment.reset(seed=seed)
    while not done:
        obs, _, terminated, truncated, _ = environment.step(policy.decide(obs))
        steps, done = steps + 1, terminated or truncated
    return steps


@pytest.mark.long
@pytest.mark.parametrize("kind", ["dqn", "ppo"])
def test_cartpole_is_learned_from_random_play(kind):
    """80,000 rows, where random play lasts 22 steps and a learner that is paid for ending 9."""
    torch.set_num_threads(1)
    training = begun(algorithm(kind).streamed, SPEC, 0, LearnSettings(gate="none"))
    rows = played(80_000, 0)
    for start in range(0, len(rows), 4_000):
        training.take([(rows.slice(start, start + 4_000), 0)])
    policy = Policy(training.policy_arrays())
    assert np.mean([length(policy, seed) for seed in range(10)]) > 100
