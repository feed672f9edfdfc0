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

    eta_squared, with its 95 % interval, is the share of the whole sum of squares that lies between groups;
    omega_squared estimates the same share in the population, with next to no bias.
    """

    f: float
    df_between: float
    df_within: float
    p: float
    eta_squared: float
    eta_low: float
    eta_high: float
    omega_squared: float


class WelchTest(NamedTuple):
    """Welch's test: groups may vary differently."""

    f: float
    df_between: float
    df_within: float
    p: float


class RankTest(NamedTuple):
    """A test by ranks."""

    statistic: float
    p: float


def one_way(groups: Groups) -> VarianceTest:
    """Fisher's one-way analysis of variance of float64[N_k] each.

    Raises ValueError for fewer than two groups, a group of fewer than two values, or no variance at all.
    """
    _require_groups(groups)
    if not any(np.ptp(group) for group in groups):
        raise ValueError("no group varies: there is no variance to compare their means with")
    f = float(stats.f_oneway(*groups).statistic)
    return _variance_test(f, len(groups) - 1, sum(map(len, groups)) - len(groups))


def one_way_from_summary(means: Sequence[float], deviations: Sequence[float], count: int) -> VarianceTest:
    """As `one_way`, from what a paper prints: means and standard deviations of groups of `count` values each."""
    f = count * float(np.var(means, ddof=1)) / float(np.square(deviations).mean())
    return _variance_test(f, len(means) - 1, (count - 1) * len(means))


def eta_squared_of(f: float, df_between: float, df_within: float) -> float:
    """Eta squared that an F with its degrees of freedom amounts to."""
    return f * df_between / (f * df_between + df_within)


def eta_interval(f: float, df_between: float, df_within: float) -> tuple[float, float]:
    """The 95 % interval of eta squared, by inverting the noncentral F distribution.

    Source: Steiger (2004), "Beyond the F test", Psychological Methods 9: eta squared = nc / (nc + N), where
    nc is the noncentrality and N the number of all values.
    """
    count = df_between + df_within + 1.0
    bounds = []
    for probability in (0.975, 0.025):
        reachable = float(special.fdtr(df_between, df_within, f)) > probability
        noncentrality = float(special.ncfdtrinc(df_between, df_within, probability, f)) if reachable else 0.0
        bounds.append(noncentrality / (noncentrality + count))
    # SciPy's inverse ends at a noncentrality of 10,000; beyond it the interval is at least not beside eta squared.
    eta = eta_squared_of(f, df_between, df_within)
    return min(bounds[0], eta), max(bounds[1], eta)


def welch(groups: Groups) -> WelchTest:
    """Welch's one-way test of float64[N_k] each, for groups of unequal variance.

    Source: Welch (1951), "On the comparison of several mean values: an alternative approach", Biometrika 38.
    Raises ValueError as `one_way`, and where one group does not vary.
    """
    _require_groups(groups)
    if not all(np.ptp(group) for group in groups):
        raise ValueError("Welch's test needs groups that vary, each of them")
    found = stats.f_oneway(*groups, equal_var=False)
    # SciPy keeps the degrees of freedom to itself.
    k, sizes = len(groups), np.array([len(group) for group in groups])
    weights = sizes / [group.var(ddof=1) for group in groups]
    df_within = (k * k - 1) / (3.0 * (np.square(1.0 - weights / weights.sum()) / (sizes - 1)).sum())
    return WelchTest(float(found.statistic), k - 1, float(df_within), float(found.pvalue))


def kruskal(groups: Groups) -> RankTest:
    """Kruskal and Wallis's test by ranks, corrected for ties; raises ValueError as `one_way`."""
    _require_groups(groups)
    return RankTest(*map(float, stats.kruskal(*groups)))


def friedman(groups: Groups) -> RankTest:
    """Friedman's test by ranks within each place, for groups that share their places (seeds); three or more groups."""
    _require_groups(groups)
    return RankTest(*map(float, stats.friedmanchisquare(*groups)))


def hedges_g(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The difference of two means in pooled deviations, corrected for small samples.

    Of float64[..., N] and float64[..., M] it is float64[...]: positive where the first is greater, NaN where neither
    varies.
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
    difference = first - second
    if np.allclose(difference, difference[0], rtol=1e-12, atol=0.0):
        return 0.0 if difference[0] else 1.0
    return float(stats.ttest_rel(first, second).pvalue)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """p-values that may be compared with a level as they are: Holm's correction for all of them.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    values = np.asarray(p_values, np.float64)
    order, adjusted = np.argsort(values), np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    found: list[float] = adjusted.tolist()
    return found


def false_discovery_adjusted(p_values: Sequence[float]) -> list[float]:
    """p-values by Benjamini and Hochberg's correction, which bounds the share of false ones among those called."""
    adjusted: list[float] = stats.false_discovery_control(p_values).tolist() if p_values else []
    return adjusted


def _variance_test(f: float, df_between: int, df_within: int) -> VarianceTest:
    above = df_between * (f - 1.0)
    return VarianceTest(
        f,
        df_between,
        df_within,
        float(special.fdtrc(df_between, df_within, f)),
        eta_squared_of(f, df_between, df_within),
        *eta_interval(f, df_between, df_within),
        max(0.0, above / (above + df_between + df_within + 1)),
    )


def _require_groups(groups: Groups) -> None:
    if len(groups) < 2 or any(np.ndim(group) != 1 or len(group) < 2 for group in groups):
        raise ValueError(f"two groups or more of 2 values or more are compared, got {[np.shape(g) for g in groups]}")
