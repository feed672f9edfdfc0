"""Comparisons of groups against published data sets with their published results, SciPy, and their definitions."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from headrace.learners.judge import comparison
from headrace.learners.judge.statistics import bootstrap_interval, interquartile_mean

# R's PlantGrowth (Dobson 1983, "An Introduction to Statistical Modelling"): dried weights of plants.
PLANTS = (
    np.array([4.17, 5.58, 5.18, 6.11, 4.50, 4.61, 5.17, 4.53, 5.33, 5.14]),
    np.array([4.81, 4.17, 4.41, 3.59, 5.87, 3.83, 6.03, 4.89, 4.32, 4.69]),
    np.array([6.31, 5.12, 5.54, 5.50, 5.37, 5.29, 4.92, 6.15, 5.80, 5.26]),
)
# NIST's Statistical Reference Dataset SiRstv, with its certified F.
NIST = (
    np.array([196.3052, 196.1240, 196.1890, 196.2569, 196.3403]),
    np.array([196.3042, 196.3825, 196.1669, 196.3257, 196.0422]),
    np.array([196.1303, 196.2005, 196.2889, 196.0343, 196.1811]),
    np.array([196.2795, 196.1748, 196.1494, 196.1485, 195.9885]),
    np.array([196.2119, 196.1051, 196.1850, 196.0052, 196.2090]),
)
RNG = np.random.default_rng(0)
UNEVEN = tuple(RNG.normal(mean, spread, n) for mean, spread, n in ((0.0, 1.0, 9), (0.5, 3.0, 14), (1.0, 0.3, 20)))


def test_one_way_equals_nists_certified_value():
    found = comparison.one_way(NIST)
    assert found.f == pytest.approx(1.18046237440255, rel=1e-9)
    assert (found.df_between, found.df_within) == (4, 20)


def test_one_way_of_plants_equals_what_r_prints():
    """summary(aov(weight ~ group)): F 4.846, p .0159; sums of squares 3.766 and 10.492."""
    found = comparison.one_way(PLANTS)
    assert found.f == pytest.approx(4.846, abs=5e-4)
    assert found.p == pytest.approx(0.0159, abs=5e-5)
    assert found.eta_squared == pytest.approx(3.76634 / (3.76634 + 10.49209), rel=1e-5)
    assert found.omega_squared == pytest.approx((3.76634 - 2 * 0.38860) / (14.25843 + 0.38860), rel=1e-4)


def test_welch_and_kruskal_of_plants_equal_what_r_prints():
    """oneway.test: F 5.181, denominator 17.128, p .01739; kruskal.test: 7.9882, p .01842."""
    welch, kruskal = comparison.welch(PLANTS), comparison.kruskal(PLANTS)
    assert welch.f == pytest.approx(5.181, abs=5e-4)
    assert welch.df_within == pytest.approx(17.128, abs=5e-4)
    assert welch.p == pytest.approx(0.01739, abs=5e-6)
    assert kruskal.statistic == pytest.approx(7.9882, abs=5e-5)
    assert kruskal.p == pytest.approx(0.01842, abs=5e-6)


@pytest.mark.parametrize("groups", [PLANTS, NIST, UNEVEN, PLANTS[:2]])
def test_tests_equal_scipys(groups):
    ours, theirs = comparison.one_way(groups), scipy.stats.f_oneway(*groups)
    assert (ours.f, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
    ours, theirs = comparison.welch(groups), scipy.stats.f_oneway(*groups, equal_var=False)
    assert (ours.f, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)


def test_a_summary_gives_the_same_as_the_values():
    """Means and deviations are all that the analysis needs."""
    whole = comparison.one_way(PLANTS)
    summary = comparison.one_way_from_summary(
        [group.mean() for group in PLANTS], [group.std(ddof=1) for group in PLANTS], 10
    )
    assert summary == pytest.approx(whole, rel=1e-9)


def test_the_papers_means_do_not_give_its_f():
    """By hand: 20 (150² + 110² + 40²) / 2 over (18² + 25² + 20²) / 3 is 805.04; as standard errors a twentieth."""
    means, spreads = [680.0, 420.0, 610.0], np.array([25.0, 18.0, 20.0])
    assert comparison.one_way_from_summary(means, spreads, 20).f == pytest.approx(362_000 / (1_349 / 3), rel=1e-12)
    assert comparison.one_way_from_summary(means, spreads * 20**0.5, 20).f == pytest.approx(40.252, abs=1e-3)
    assert comparison.eta_squared_of(34.6, 2, 57) == pytest.approx(0.5483, abs=1e-4)


@pytest.mark.parametrize(("f", "above", "below"), [(4.846, 2, 27), (34.6, 2, 57), (1.2, 3, 20)])
def test_the_interval_of_eta_squared_holds_the_noncentral_distributions_quantiles(f, above, below):
    low, high = comparison.eta_interval(f, above, below)
    count = above + below + 1
    greatest = high / (1 - high) * count
    assert scipy.stats.ncf.cdf(f, above, below, greatest) == pytest.approx(0.025, abs=1e-4)
    if low:
        assert scipy.stats.ncf.cdf(f, above, below, low / (1 - low) * count) == pytest.approx(0.975, abs=1e-4)
    else:
        assert scipy.stats.f.cdf(f, above, below) <= 0.975


def test_hedges_g_of_plants():
    """By hand: means 5.526 and 4.661, variances .195871 and .629921: d = .865 / sqrt(.412896), J(18) = .957642."""
    found = comparison.hedges_g(PLANTS[2], PLANTS[1])
    assert found == pytest.approx(0.865 / 0.412896**0.5 * 0.957642, rel=1e-4)
    assert comparison.hedges_g(PLANTS[1], PLANTS[2]) == pytest.approx(-found)


def test_improvement_is_mann_whitneys_u_over_the_pairs():
    u = scipy.stats.mannwhitneyu(PLANTS[2], PLANTS[1]).statistic
    assert comparison.improvement(PLANTS[2], PLANTS[1]) == pytest.approx(u / 100)
    assert comparison.improvement(np.ones(3), np.ones(4)) == 0.5


def test_paired_p_equals_scipys():
    expected = scipy.stats.ttest_rel(PLANTS[0], PLANTS[2]).pvalue
    assert comparison.paired_p(PLANTS[0], PLANTS[2]) == pytest.approx(expected, rel=1e-9)
    assert comparison.paired_p(PLANTS[0], PLANTS[0]) == 1.0
    assert comparison.paired_p(np.arange(5.0), np.arange(5.0) - 1.0) == 0.0
    assert comparison.paired_p(np.array([102.4, 153.6]), np.array([51.2, 102.4])) == 0.0, "the same but for rounding"


def test_friedman_equals_scipys():
    expected = scipy.stats.friedmanchisquare(*PLANTS)
    assert comparison.friedman(PLANTS) == (expected.statistic, expected.pvalue)


@given(st.lists(st.floats(0.0, 1.0), max_size=8))
def test_holm_adjusted_agrees_with_the_step_down_test(p_values):
    """An adjusted p-value is at most the level exactly where Holm's procedure rejects."""
    adjusted, count = comparison.holm_adjusted(p_values), len(p_values)
    ordered = sorted(range(count), key=p_values.__getitem__)
    passed = list(itertools.takewhile(lambda place: p_values[ordered[place]] <= 0.05 / (count - place), range(count)))
    rejected = {ordered[place] for place in passed}
    assert {place for place, p in enumerate(adjusted) if p <= 0.05} == rejected or any(
        abs(p - 0.05) < 1e-9 for p in adjusted
    )
    assert all(after >= before for before, after in zip(p_values, adjusted, strict=True))


def test_adjusted_p_values_of_a_known_case():
    """R: p.adjust(c(.01, .02, .03, .04), "holm") is .04 .06 .06 .06; "BH" .04 each."""
    assert comparison.holm_adjusted([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert comparison.false_discovery_adjusted([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04] * 4)


def test_the_interquartile_mean_is_the_trimmed_mean():
    """Of 20 values SciPy's 25 % trimmed mean; of 6 the two outer ones of the middle four count half."""
    values = np.random.default_rng(3).normal(size=20)
    assert interquartile_mean(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25))
    assert interquartile_mean(np.array([9.0, 1.0, 2.0, 3.0, 4.0, -7.0])) == pytest.approx((0.5 + 2 + 3 + 2) / 3)


def test_a_bootstrap_interval_covers_the_mean_and_repeats():
    """Of 400 samples of 25 the 90 % intervals cover the mean in .83 to .94 (percentiles are a little narrow)."""
    samples = np.random.default_rng(4).normal(2.0, 1.0, (400, 25))

    def mean(values):
        return values.mean(axis=-1)

    found = [bootstrap_interval([one], mean, confidence=0.9, resamples=500) for one in samples]
    assert 0.83 <= np.mean([one.low <= 2.0 <= one.high for one in found]) <= 0.94
    assert found[0] == bootstrap_interval([samples[0]], mean, confidence=0.9, resamples=500)


def test_pairs_are_drawn_together():
    """A constant difference has no spread when pairs are kept, and one when they are not."""
    first = np.random.default_rng(5).normal(size=20)

    def difference(a, b):
        return a.mean(axis=-1) - b.mean(axis=-1)

    kept = bootstrap_interval([first, first - 1.0], difference, paired=True, resamples=200)
    loose = bootstrap_interval([first, first - 1.0], difference, resamples=200)
    assert (kept.low, kept.high) == pytest.approx((1.0, 1.0))
    assert loose.high - loose.low > 0.5


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="two groups or more"):
        comparison.one_way([PLANTS[0]])
    with pytest.raises(ValueError, match="no group varies"):
        comparison.one_way([np.ones(3), np.zeros(3)])
    with pytest.raises(ValueError, match="groups that vary"):
        comparison.welch([np.ones(3), PLANTS[0]])
    with pytest.raises(ValueError, match="equal shapes"):
        bootstrap_interval([np.ones(2), np.ones(3)], lambda a, _: a, paired=True)
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval([np.array([np.nan])], lambda a: a)
