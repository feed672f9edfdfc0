"""Weighted doubly robust evaluation: weights and sums by hand, and what it adds to fitted values."""

import dataclasses

import numpy as np
import pytest
from judge_examples import transitions
from test_ope import DISCOUNT, always, two_rooms

from headrace.learners.judge import robust
from headrace.learners.judge.data import judge_by_data
from headrace.learners.judge.ope import evaluated
from headrace.learners.judge.robust import weighted

LOG2 = np.log(2.0)


def steps_of(*episodes):
    """Rows of episodes, each a list of its steps, by one agent each."""
    number = np.repeat(np.arange(len(episodes)), [len(one) for one in episodes])
    return transitions(number, number, np.concatenate(episodes), np.ones(len(number)))


def test_weights_by_hand(monkeypatch):
    """Ratios 2, 2 in the first episode, 1/2 in the second, which ends: it keeps its weight. The others don't count."""
    monkeypatch.setattr(robust, "LEAST_EPISODES", 1.0)
    rows = steps_of([0, 1], [0], [3, 4], [0, 2])
    ratio = np.array([LOG2, LOG2, -LOG2, 0, 0, np.nan, 0])
    found = weighted(rows, ratio, np.array([0, 0, 1, 1, 1, 1, 1]), 2)
    assert found.places.tolist() == [0, 1, 2]
    assert found.step.tolist() == [0, 1, 0]
    assert found.weight == pytest.approx([2.0, 4.0, 0.5])
    assert found.sums == pytest.approx(np.array([[2.0, 4.0], [0.5, 0.5]]))
    # Errors 1, 1, 3: (2 * 1 + .5 * 3) / 2.5 + .9 * (4 * 1) / 4.5; the second group drawn twice, the first once.
    group = np.array([0, 0, 1])
    assert found.missed(np.array([1.0, 1, 3]), group, np.array([1, 1]), 0.9) == pytest.approx(1.4 + 0.8)
    assert found.missed(np.array([1.0, 1, 3]), group, np.array([1, 2]), 0.9) == pytest.approx(5 / 3 + 0.9 * 4 / 5)


def test_the_sum_ends_where_few_episodes_carry_the_weight():
    """Of 100 episodes 50 act as the policy would in their first step, and 25 in the next, which are too few."""
    rows = steps_of(*[[0, 1, 2]] * 100)
    agrees = np.stack([np.arange(100) % 2 == 0, np.arange(100) % 4 == 0, np.arange(100) % 8 == 0], axis=1)
    found = weighted(rows, np.where(agrees, LOG2, -np.inf).ravel(), np.zeros(300, np.int64), 1)
    assert found.sums == pytest.approx(np.array([[100.0]]))
    assert weighted(rows.take(np.arange(90)), np.zeros(90), np.zeros(90, np.int64), 1) is None


def test_it_says_what_fitted_values_say_where_these_are_right():
    rows = dataclasses.replace(two_rooms(), log_prob=np.full(2_400, np.log(0.5), np.float32))
    found = evaluated(rows, [always(1), None], 2, DISCOUNT, seed=0)
    assert [values.mean() for values in found.robust] == pytest.approx([10.0, 5.0], abs=0.3)
    assert found.steps == [1, 20]
    verdict = judge_by_data(rows, always(1), None, 2, DISCOUNT)
    assert "; doubly robust, by log_prob over 1 steps: +" in verdict.reason
    assert evaluated(two_rooms(), [always(1)], 2, DISCOUNT, seed=0).robust == []
