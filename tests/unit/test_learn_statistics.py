"""Intervals: a hand-computed case, scipy's own, their coverage, and refusals."""

import numpy as np
import pytest
import scipy.stats

from headrace.learners.judge.statistics import mean_interval, paired_difference


def test_interval_equals_the_hand_computed_case():
    """1, 2, 3: mean 2, deviation 1, standard error 1/sqrt(3), t(2 df, .975) = 4.302653."""
    interval = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (interval.mean, interval.n) == (2.0, 3)
    assert interval.high - 2.0 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert 2.0 - interval.low == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_paired_interval_equals_scipys(confidence):
    """The same bounds as scipy's paired t-test."""
    rng = np.random.default_rng(0)
    shared = rng.normal(80.0, 10.0, 40)
    first, second = shared + rng.normal(1.0, 2.0, 40), shared + rng.normal(0.0, 2.0, 40)
    expected = scipy.stats.ttest_rel(first, second).confidence_interval(confidence)
    interval = paired_difference(first, second, confidence)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert interval.mean == pytest.approx(float(np.mean(first - second)))


def test_pairing_narrows_the_interval():
    """What both share is taken out: the interval is far narrower than that of either."""
    rng = np.random.default_rng(1)
    shared = rng.normal(80.0, 10.0, 100)
    first, second = shared + rng.normal(0.5, 0.5, 100), shared
    paired, alone = paired_difference(first, second), mean_interval(first)
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)


def test_ninety_per_cent_intervals_cover_the_mean_nine_times_in_ten():
    """Over 2,000 samples of 8 the share lies within three standard errors (.02) of .9."""
    samples = np.random.default_rng(2).normal(3.0, 1.0, (2000, 8))
    intervals = [mean_interval(sample, 0.9) for sample in samples]
    covered = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])
    assert covered == pytest.approx(0.9, abs=0.02)


def test_equal_values_give_an_interval_without_width():
    """No variance, no doubt."""
    assert mean_interval(np.full(5, 2.0)) == (2.0, 2.0, 2.0, 5)


def test_what_has_no_interval_is_refused():
    """Too few values, NaN, a matrix, confidence out of range, unequal lengths."""
    with pytest.raises(ValueError, match="2 values or more"):
        mean_interval(np.array([1.0]))
    with pytest.raises(ValueError, match="2 values or more"):
        mean_interval(np.ones((3, 3)))
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        mean_interval(np.array([1.0, np.nan, 2.0]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_interval(np.ones(3), confidence=95)
    with pytest.raises(ValueError, match="equal shapes"):
        paired_difference(np.ones(3), np.ones(1))
