"""Intervals on arrays."""

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from headrace.learners.judge.distributions import t_quantile

RESAMPLES: Final = 10_000


class MeanInterval(NamedTuple):
    """The mean of n values with the bounds of its two-sided confidence interval, in the values' unit."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> MeanInterval:
    """Student's t interval of the mean.

    Args:
        values: float[N], independent; N of 2 or more.
        confidence: probability in (0, 1) that such an interval covers the true mean.

    Raises:
        ValueError: fewer than two values, a value that isn't finite, or confidence out of range.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval needs a vector of 2 values or more, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} values are not finite")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    n = len(values)
    mean = float(values.mean())
    half = t_quantile(n - 1, 0.5 + confidence / 2) * float(values.std(ddof=1)) / math.sqrt(n)
    return MeanInterval(mean, mean - half, mean + half, n)


def paired_difference(first: np.ndarray, second: np.ndarray, confidence: float = 0.95) -> MeanInterval:
    """The mean of `first - second` with its interval, pair by pair (the paired t-test's interval).

    Pairing takes out what both share (the trace), which is most of the variance.

    Args:
        first: float[N].
        second: float[N], in the same order.
        confidence: as in `mean_interval`.

    Raises:
        ValueError: shapes differ, or as in `mean_interval`.
    """
    if first.shape != second.shape:
        raise ValueError(f"paired values must have equal shapes, got {first.shape} and {second.shape}")
    return mean_interval(np.asarray(first, np.float64) - np.asarray(second, np.float64), confidence)


def ratio_interval(tops: np.ndarray, bottoms: np.ndarray) -> MeanInterval:
    """The ratio of two sums over independent clusters, with its 95 % interval: rewards by episodes, of agents.

    Its deviation is that of the residuals (top - ratio * bottom) / mean bottom; a bootstrap of the clusters tends to
    the same. Source: Cochran (1977), "Sampling Techniques", section 2.11.

    Args:
        tops: float[N], a cluster each.
        bottoms: float[N], none negative, their sum positive.

    Raises as `mean_interval`.
    """
    return mean_interval(ratio_values(tops, bottoms))


def ratio_values(tops: np.ndarray, bottoms: np.ndarray) -> np.ndarray:
    """Values float64[N] whose mean is the ratio of two sums and whose spread is its error, as `ratio_interval` says."""
    if tops.shape != bottoms.shape:
        raise ValueError(f"each top has its bottom, got shapes {tops.shape} and {bottoms.shape}")
    ratio = float(tops.sum() / bottoms.sum())
    values: np.ndarray = ratio + (tops - ratio * bottoms) / bottoms.mean()
    return values


def skewed_interval(values: np.ndarray, tail: float) -> MeanInterval:
    """The mean's interval that leaves `tail` on either side, by Student's t corrected for the values' skewness.

    Returns are skewed: what does a little better in most episodes, and fails badly in a few, has a t interval that lies
    above its true mean far too often, and the more so the smaller the tail. Source: Hall (1992), "On the Removal of
    Skewness by Transformation", the monotone cubic. Raises as `mean_interval` does.
    """
    mean, _, _, n = mean_interval(values)
    centred = np.asarray(values, np.float64) - mean
    deviation, root = float(centred.std(ddof=1)), math.sqrt(n)
    if deviation == 0.0:
        return MeanInterval(mean, mean, mean, n)
    quantile = -t_quantile(n - 1, tail)
    skewness = float((centred**3).mean()) / float(centred.std()) ** 3
    low, high = (mean - deviation / root * _unskewed(side, skewness / root) for side in (quantile, -quantile))
    return MeanInterval(mean, low, high, n)


def _unskewed(quantile: float, skew: float) -> float:
    """Return the t statistic that the cubic turns into a quantile; skew: the values' skewness / √n."""
    if abs(skew) < 1e-9:
        return quantile
    return 3.0 / skew * (float(np.cbrt(1.0 + skew * (quantile - skew / 6.0))) - 1.0)


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half, along the last axis: float64[..., N] -> float64[...].

    Of values that lie across a quartile the part inside counts, so that it is exact for every N.
    Source: Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=-1)
    n = ordered.shape[-1]
    edges = np.arange(n + 1) / n
    inside: np.ndarray = np.clip(edges[1:], 0.25, 0.75) - np.clip(edges[:-1], 0.25, 0.75)
    mean: np.ndarray = ordered @ (inside / 0.5)
    return mean


Statistic = Callable[..., np.ndarray]
"""Of samples float64[..., N] along the last axis, float64[...]."""


def bootstrap_interval(
    samples: Sequence[np.ndarray],
    statistic: Statistic,
    *,
    paired: bool = False,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> MeanInterval:
    """The statistic of samples float64[N] each, with its percentile bootstrap interval; n of the first sample.

    paired: the same places of each sample are drawn, as values that share a seed need. Draws without a value (an
    effect size of what does not vary) are left out, which SciPy's `bootstrap` cannot. Raises ValueError where a sample
    is empty or not finite, or paired ones differ in length.
    """
    arrays = [np.asarray(sample, np.float64) for sample in samples]
    if any(a.ndim != 1 or not len(a) or not np.isfinite(a).all() for a in arrays):
        raise ValueError(f"a bootstrap needs vectors of finite values, got shapes {[a.shape for a in arrays]}")
    if paired and len({len(a) for a in arrays}) > 1:
        raise ValueError(f"paired values must have equal shapes, got {[a.shape for a in arrays]}")
    rng = np.random.default_rng(seed)
    shared = rng.integers(len(arrays[0]), size=(resamples, len(arrays[0])))
    drawn = [a[shared if paired else rng.integers(len(a), size=(resamples, len(a)))] for a in arrays]
    found = statistic(*drawn)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(found[np.isfinite(found)], [tail, 1.0 - tail])
    return MeanInterval(float(statistic(*arrays)), float(low), float(high), len(arrays[0]))
