"""Shaping by a potential: what it adds telescopes, so no policy's order changes; and it is fitted to a reward term."""

import dataclasses

import numpy as np
import pytest
import torch

from headrace.learners import dqn
from headrace.learners.dqn.replay import Batch
from headrace.learners.dqn.updates import _rewards
from headrace.learners.shaping import fit_potential, shaping

torch.set_num_threads(1)


def test_by_hand():
    """g P(s') - P(s) with P = 2 x0 - x1; nothing of what follows counts after the end."""
    obs = np.float32([[1, 0], [0, 1]])
    next_obs = np.float32([[3, 1], [2, 2]])
    added = shaping(obs, next_obs, np.array([0.5, 0.0]), (2.0, -1.0))
    assert added == pytest.approx([0.5 * 5 - 2, 0 - -1])


def test_an_episodes_shaping_is_the_same_whatever_was_done():
    """The discounted sum depends on where it began alone, once it has ended; so the order of policies stays."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(1, 3)).astype(np.float32)
    totals = []
    for _ in range(5):
        path = np.concatenate([start, rng.normal(size=(20, 3)).astype(np.float32)])
        discount = np.full(20, 0.9)
        discount[-1] = 0.0
        added = shaping(path[:-1], path[1:], discount, (0.3, -1.0, 0.5))
        totals.append(float(added @ 0.9 ** np.arange(20)))
    assert totals == pytest.approx([-float(start[0] @ np.array([0.3, -1.0, 0.5]))] * 5, abs=1e-5)


def test_fit_finds_a_linear_term():
    """Whatever the scales; what never varies gets no weight; rows without the term don't count."""
    rng = np.random.default_rng(1)
    obs = (rng.normal(size=(500, 4)) * [1, 100, 0.1, 0] + [0, 5, 0, 7]).astype(np.float32)
    term = (2 * obs[:, 0] - 0.03 * obs[:, 1] + 5).astype(np.float32)
    term[::7] = np.nan
    found = fit_potential(obs, term)
    assert found == pytest.approx((2.0, -0.03, 0.0, 0.0), abs=5e-3)
    assert fit_potential(obs[:7], term[:7]) is None


def test_dqn_learns_from_shaped_rewards_and_reports_its_own():
    """A potential changes the update; the running mean of the rewards, which is told, does not change by it."""
    rng = np.random.default_rng(2)
    config = dqn.DQNConfig(hidden=(8,), batch_size=32, replay_capacity=100)
    batch = Batch(
        rng.normal(size=(32, 3)).astype(np.float32),
        rng.integers(2, size=32),
        rng.normal(size=32).astype(np.float32),
        rng.normal(size=(32, 3)).astype(np.float32),
        rng.random(32) < 0.1,
    )
    plain, shaped = (
        dqn.update(dqn.init(dataclasses.replace(config, potential=potential), 3, 2, seed=0), batch)
        for potential in ((), (0.5, 0.0, -1.0))
    )
    assert shaped[1]["loss"] != plain[1]["loss"]
    assert shaped[0].rewards == plain[0].rewards
    by_hand = batch._replace(
        reward=(
            batch.reward + shaping(batch.obs, batch.next_obs, config.discount * ~batch.terminated, (0.5, 0.0, -1.0))
        ).astype(np.float32)
    )
    uncentred = dataclasses.replace(config, centre_rewards=False)
    expected, _ = _rewards(dqn.init(uncentred, 3, 2, seed=0), by_hand)
    potential = dataclasses.replace(uncentred, potential=(0.5, 0.0, -1.0))
    assert _rewards(dqn.init(potential, 3, 2, seed=0), batch)[0] == pytest.approx(expected, rel=1e-5)
