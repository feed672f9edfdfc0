"""Rewards over n steps, against the plain loop."""

import numpy as np
import pytest

from headrace.learners.dqn.nstep import NStepWindow
from headrace.learners.dqn.replay import Batch, ReplayBuffer


def course(steps, count, seed):
    """Steps of `count` trajectories whose observations tell (step, trajectory)."""
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(steps, count)).astype(np.float32)
    terminated, truncated = rng.random((2, steps, count)) < 0.15
    rows = []
    for t in range(steps):
        obs = np.stack([np.full(count, t), np.arange(count)], axis=1).astype(np.float32)
        rows.append((Batch(obs, np.full(count, t % 3), rewards[t], obs + 0.5, terminated[t]), truncated[t]))
    return rows, rewards, terminated, truncated


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_every_start_comes_once_with_the_reward_of_its_span(n, seed):
    """Each (step, trajectory) up to the last n - 1 comes exactly once; spans end at an episode's end."""
    rows, rewards, terminated, truncated = course(20, 6, seed)
    window, found = NStepWindow(n, 0.9), {}
    for batch, cut in rows:
        for done in window.push(batch, batch.terminated | cut):
            spans = np.ones(len(done.reward), int) if done.steps is None else done.steps
            for i in range(len(done.reward)):
                key = tuple(done.obs[i].astype(int))
                assert key not in found
                found[key] = (done.reward[i], spans[i], done.terminated[i], tuple(done.next_obs[i]))
    for t in range(20):
        for i in range(6):
            total, last = 0.0, None
            for k in range(t, min(t + n, 20)):
                total += 0.9 ** (k - t) * rewards[k, i]
                if terminated[k, i] or truncated[k, i] or k == t + n - 1:
                    last = k
                    break
            if last is None:
                assert (t, i) not in found
                continue
            reward, span, ended, following = found[(t, i)]
            assert reward == pytest.approx(total, abs=1e-5)
            assert (span, ended) == (last - t + 1, terminated[last, i])
            assert following == (last + 0.5, i + 0.5)


def test_a_buffer_keeps_the_spans():
    """Rows without spans, put beside rows with them, span one step."""
    buffer = ReplayBuffer(4, 2)
    one = course(1, 2, 0)[0][0][0]
    buffer.add(one)
    buffer.add(one._replace(steps=np.array([3, 2])))
    buffer.add(one)
    steps = buffer.take(np.arange(4)).steps
    assert steps.tolist() == [1, 1, 3, 2]
