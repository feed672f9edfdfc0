"""Rows of one task as tests of judges need them."""

import numpy as np

from headrace.schemas.transition import TransitionBatch


def transitions(agent, episode, step, reward, **columns):
    """Rows by columns of equal length; obs is the step alone unless given. agent, episode: numbers from 0."""
    agent, episode = np.asarray(agent, np.int32), np.asarray(episode, np.int32)
    step, count = np.asarray(step, np.int64), len(agent)
    known = {
        "ts": step * 1_000,
        "offset": np.arange(count),
        "obs": step[:, None].astype(np.float32),
        "action": np.zeros(count, np.int32),
        "reward": np.asarray(reward, np.float32),
        "next_obs": (step[:, None] + 1).astype(np.float32),
        "terminated": np.zeros(count, np.bool_),
        "truncated": np.zeros(count, np.bool_),
        "reward_terms": np.zeros((count, 0), np.float32),
        "policy_version": np.full(count, -1),
        "log_prob": np.full(count, np.nan, np.float32),
    }
    agents = tuple(f"a{number}" for number in range(agent.max() + 1))
    episodes = tuple(f"e{number}" for number in range(episode.max() + 1))
    return TransitionBatch("t", agents, episodes, agent, episode, step, **(known | columns))
