"""The gate: accepts what is shown to be better, and nothing else."""

import dataclasses

import numpy as np
import pytest

from headrace.learners.gate import judge

NOISE = np.random.default_rng(0).normal(0.0, 1.0, 100)
SERVING = np.random.default_rng(1).normal(80.0, 10.0, 100)
FLOOR = SERVING - 20.0


def test_a_clearly_better_candidate_is_accepted():
    """The verdict carries the paired figures; the floor plays no part while a policy serves."""
    verdict = judge(SERVING + 1.0 + NOISE, SERVING, FLOOR)
    assert verdict.accepted
    assert (verdict.opponent, verdict.n, verdict.confidence) == ("serving", 100, 0.95)
    assert 0.0 < verdict.low < verdict.mean_difference < verdict.high
    assert verdict.mean_difference == pytest.approx(1.0 + NOISE.mean())
    assert verdict.reason.startswith("candidate beats the serving policy: +1.0")


@pytest.mark.parametrize(
    ("gain", "words"),
    [(0.1, "is not shown to beat the serving policy"), (-1.0, "is worse than the serving policy")],
)
def test_a_better_mean_alone_is_not_enough(gain, words):
    """A gain within the noise, and a loss, are refused with the reason, though both beat the floor."""
    verdict = judge(SERVING + gain + NOISE - NOISE.mean(), SERVING, FLOOR)
    assert not verdict.accepted
    assert verdict.mean_difference == pytest.approx(gain)
    assert words in verdict.reason


def test_the_serving_policy_itself_is_refused():
    """Equal returns: the interval is [0, 0], and 0 is not above 0."""
    verdict = judge(SERVING, SERVING, FLOOR)
    assert not verdict.accepted
    assert (verdict.low, verdict.high) == (0.0, 0.0)


def test_while_nothing_serves_the_floor_is_the_opponent():
    """The first policy must beat the baseline."""
    accepted, refused = judge(FLOOR + 1.0 + NOISE, None, FLOOR), judge(FLOOR - 1.0 + NOISE, None, FLOOR)
    assert (accepted.accepted, refused.accepted) == (True, False)
    assert accepted.opponent == refused.opponent == "floor"
    assert "beats the floor baseline" in accepted.reason


def test_one_trace_short_or_nan_is_an_error_not_a_verdict():
    """Returns that aren't paired or aren't numbers never promote anything."""
    with pytest.raises(ValueError, match="equal shapes"):
        judge(SERVING[:-1], SERVING, FLOOR)
    with pytest.raises(ValueError, match="not finite"):
        judge(np.where(np.arange(100) == 3, np.nan, SERVING), SERVING, FLOOR)


def test_a_verdict_does_not_change():
    """It is a record."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        judge(SERVING, SERVING, FLOOR).accepted = True
