"""The canary's test: its boundary by hand, and how often it errs and finds."""

import math

import numpy as np
import pytest

from headrace.learners.judge.sequential import boundary, look


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        # rho = 20 / (5.991465 + ln 6.991465) = 20 / 7.936155 = 2.520112
        (2.520112, math.sqrt(2 * math.log(2 / 0.0025))),  # 3.656: t is rho
        (20.0, math.sqrt(1.126006 * math.log(8.936155 / 0.0025))),  # 3.035
        (2_000.0, math.sqrt(1.00126 * math.log(794.6155 / 0.0025))),  # 3.561
    ],
)
def test_the_boundary_by_hand(time, expected):
    assert boundary(time) == pytest.approx(expected, rel=1e-4)


def test_a_look_by_hand():
    """By episodes 2 and 4 of one each, 1 and 1: the difference is 2; residuals -1, 1 and 0, 0."""
    found = look((np.array([2.0, 4.0]), np.ones(2)), (np.ones(2), np.ones(2)), windows=20)
    assert found.difference == 2.0
    assert found.agents == (2, 2)
    assert found.low < 0.0 < found.high  # two agents say little


def test_too_little_to_compare_by():
    ones = np.ones(3), np.ones(3)
    assert look((np.ones(1), np.ones(1)), ones, 5) is None
    assert look((np.ones(3), np.zeros(3)), ones, 5) is None
    assert look(ones, ones, 0) is None


def decided(rng, gain, own, canary=7, others=57, windows=120):
    """Agents that differ by `own` deviations among themselves; the first look that decides says so."""
    levels, sums = rng.normal(0.0, own, canary + others), np.zeros(canary + others)
    levels[:canary] += gain
    for window in range(1, windows + 1):
        sums += levels + rng.normal(0.0, 1.0, canary + others)
        counts = np.full(canary + others, float(window))
        found = look((sums[:canary], counts[:canary]), (sums[canary:], counts[canary:]), window)
        if found.low > 0 or found.high < 0:
            return 1 if found.low > 0 else -1
    return 0


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_equal_policies_are_seldom_called_different(own):
    """At 120 looks each, of 150 lives: 5 % at most, and three standard errors."""
    rng = np.random.default_rng(7)
    assert sum(decided(rng, 0.0, own) != 0 for _ in range(150)) <= 150 * 0.05 + 8


def test_what_is_worse_is_found():
    rng = np.random.default_rng(8)
    assert [decided(rng, -1.0, 0.2) for _ in range(20)] == [-1] * 20
