"""Intervals on arrays."""

import math
from typing import NamedTuple

import numpy as np

# scipy.stats takes half a second to import; this is the function its `t.ppf` calls.
from scipy.special import stdtrit


class MeanInterval(NamedTuple):
    """A mean with its two-sided confidence interval, in the values' unit.

    Attributes:
        mean: the sample mean.
        low: lower bound.
        high: upper bound.
        n: number of values.
    """

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
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * float(values.std(ddof=1)) / math.sqrt(n)
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
