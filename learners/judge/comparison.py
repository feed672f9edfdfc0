"""Do several groups differ, and by how much: analysis of variance, its robust kin, effect sizes, several tests at once.

SciPy's statistics take half a second to import: import this module where it is used.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats

Groups = Sequence[np.ndarray]


class VarianceTest(NamedTuple):
    """One-way analysis of variance.

    Attributes:
        f: variance between the groups' means over that within.
        df_between: degrees of freedom above, groups - 1.
        df_within: and below.
        p: probability of such an F, or a larger one, where all means are equal.
        eta_squared: share of the whole sum of squares that lies between groups.
        eta_low: lower bound of its 95 % interval.
        eta_high: upper bound.
        omega_squared: the same share in the population, estimated with next to no bias.
    """

    f: float
    df_between: float
    df_within: float
    p: float
    eta_squared: float
    eta_low: float
    eta_high: float
    omega_squared: float


class RankTest(NamedTuple):
    """A test's statistic with its degrees of freedom and p-value."""

    statistic: float
    df: float
    p: float


class WelchTest(NamedTuple):
    """Welch's test: groups may vary differently."""

    f: float
    df_between: float
    df_within: float
    p: float


def one_way(groups: Groups) -> VarianceTest:
    """Fisher's one-way analysis of variance of float64[N_k] each.

    Raises:
        ValueError: fewer than two groups, a group of fewer than two values, or no variance at all.
    """
    _require_groups(groups)
    values = np.concatenate(groups)
    between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups)
    within = sum(float(np.square(group - group.mean()).sum()) for group in groups)
    return _variance_test(float(between), within, len(groups), len(values))


def one_way_from_summary(means: Sequence[float], deviations: Sequence[float], count: int) -> VarianceTest:
    """As `one_way`, from what a paper prints: means and standard deviations of groups of `count` values each."""
    between = count * float(np.square(np.asarray(means) - np.mean(means)).sum())
    within = (count - 1) * float(np.square(deviations).sum())
    return _variance_test(between, within, len(means), count * len(means))


def eta_squared_of(f: float, df_between: float, df_within: float) -> float:
    """Eta squared that an F with its degrees of freedom amounts to."""
    return f * df_between / (f * df_between + df_within)


def eta_interval(f: float, df_between: float, df_within: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of eta squared, by inverting the noncentral F distribution.

    Source: Steiger (2004), "Beyond the F test", Psychological Methods 9: eta squared = nc / (nc + N), where
    nc is the noncentrality and N the number of all values.
    """
    tail = (1.0 - confidence) / 2.0
    count = df_between + df_within + 1.0
    bounds = []
    for probability in (1.0 - tail, tail):
        reachable = float(special.fdtr(df_between, df_within, f)) > probability
        noncentrality = float(special.ncfdtrinc(df_between, df_within, probability, f)) if reachable else 0.0
        bounds.append(noncentrality / (noncentrality + count))
    # SciPy's inverse ends at a noncentrality of 10,000; beyond it the interval is at least not beside eta squared.
    eta = eta_squared_of(f, df_between, df_within)
    return min(bounds[0], eta), max(bounds[1], eta)


def welch(groups: Groups) -> WelchTest:
    """Welch's one-way test of float64[N_k] each, for groups of unequal variance.

    Source: Welch (1951), "On the comparison of several mean values: an alternative approach", Biometrika 38.

    Raises:
        ValueError: as in `one_way`; also where one group does not vary.
    """
    _require_groups(groups)
    variances = np.array([group.var(ddof=1) for group in groups])
    if not variances.all():
        raise ValueError("Welch's test needs groups that vary, each of them")
    sizes = np.array([len(group) for group in groups])
    weights, k = sizes / variances, len(groups)
    means = np.array([group.mean() for group in groups])
    centre = weights @ means / weights.sum()
    spread = float((np.square(1.0 - weights / weights.sum()) / (sizes - 1)).sum())
    above = float(weights @ np.square(means - centre)) / (k - 1)
    f = above / (1.0 + 2.0 * (k - 2) / (k * k - 1) * spread)
    df = (k * k - 1) / (3.0 * spread)
    return WelchTest(f, k - 1, df, float(special.fdtrc(k - 1, df, f)))


def kruskal(groups: Groups) -> RankTest:
    """Kruskal and Wallis's test by ranks, corrected for ties.

    Raises:
        ValueError: as in `one_way`.
    """
    _require_groups(groups)
    found = stats.kruskal(*groups)
    return RankTest(float(found.statistic), len(groups) - 1, float(found.pvalue))


def friedman(groups: Groups) -> RankTest:
    """Friedman's test by ranks within each place, for groups that share their places (seeds); three or more groups."""
    _require_groups(groups)
    found = stats.friedmanchisquare(*groups)
    return RankTest(float(found.statistic), len(groups) - 1, float(found.pvalue))


def hedges_g(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The difference of two means in pooled deviations, corrected for small samples.

    Args:
        first: float64[..., N].
        second: float64[..., M].

    Returns:
        float64[...], positive where the first is greater; NaN where neither varies.

    Source: Hedges (1981), "Distribution theory for Glass's estimator of effect size".
    """
    n, m = first.shape[-1], second.shape[-1]
    df = n + m - 2
    squares = first.var(axis=-1, ddof=1) * (n - 1) + second.var(axis=-1, ddof=1) * (m - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        d = (first.mean(axis=-1) - second.mean(axis=-1)) / np.sqrt(squares / df)
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    found: np.ndarray = d * correction
    return found


def improvement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Probability that a value of the first exceeds one of the second, ties half: float64[..., N], [..., M] -> [...].

    Source: Agarwal et al. (2021), as `statistics.interquartile_mean`.
    """
    difference = first[..., :, None] - second[..., None, :]
    found: np.ndarray = (np.sign(difference) * 0.5 + 0.5).mean(axis=(-2, -1))
    return found


def paired_p(first: np.ndarray, second: np.ndarray) -> float:
    """The two-sided p-value of the paired t test; 1 where all pairs are equal, 0 where all differ by the same."""
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    if error == 0.0:
        return 0.0 if difference.mean() else 1.0
    return 2.0 * float(special.stdtr(len(difference) - 1, -abs(float(difference.mean())) / error))


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """p-values that may be compared with a level as they are: Holm's correction for all of them.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    adjusted, greatest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        greatest = max(greatest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = greatest
    return adjusted


def false_discovery_adjusted(p_values: Sequence[float]) -> list[float]:
    """p-values by Benjamini and Hochberg's correction, which bounds the share of false ones among those called."""
    adjusted: list[float] = stats.false_discovery_control(p_values).tolist() if p_values else []
    return adjusted


def _variance_test(between: float, within: float, groups: int, count: int) -> VarianceTest:
    df_between, df_within = groups - 1, count - groups
    if within <= 0.0:
        raise ValueError("no group varies: there is no variance to compare their means with")
    mean_square = within / df_within
    f = between / df_between / mean_square
    total = between + within
    omega = (between - df_between * mean_square) / (total + mean_square)
    low, high = eta_interval(f, df_between, df_within)
    p = float(special.fdtrc(df_between, df_within, f))
    return VarianceTest(f, df_between, df_within, p, between / total, low, high, max(0.0, omega))


def _require_groups(groups: Groups) -> None:
    if len(groups) < 2 or any(np.ndim(group) != 1 or len(group) < 2 for group in groups):
        raise ValueError(f"two groups or more of 2 values or more are compared, got {[np.shape(g) for g in groups]}")
