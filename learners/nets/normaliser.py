"""Running mean and deviation of columns, merged batch by batch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# A constant input carries no news: a scale this small would only amplify its rounding.
MINIMAL_SCALE = 1e-3


class Moments(NamedTuple):
    """What the rows seen so far are like."""

    rows: int
    mean: NDArray[np.float64]  # [D]
    square: NDArray[np.float64]  # [D], sum of squared deviations from the mean

    @property
    def scale(self) -> NDArray[np.float64]:
        """Standard deviation of each column, float64[D]; 1 where nothing varies or nothing was seen."""
        if not self.rows:
            return np.ones_like(self.mean)
        deviation = np.sqrt(self.square / self.rows)
        return np.where(deviation > MINIMAL_SCALE, deviation, 1.0)


def no_moments(width: int) -> Moments:
    """Of no rows of `width` columns."""
    return Moments(0, np.zeros(width), np.zeros(width))


def normalising(moments: Moments, mean: NDArray[np.floating], scale: NDArray[np.floating]) -> Moments:
    """Moments of as many rows that normalise as a policy does, float[D] each: the same where these do already."""
    if all(np.array_equal(own.astype(np.float32), of) for own, of in ((moments.mean, mean), (moments.scale, scale))):
        return moments
    rows = max(1, moments.rows)
    return Moments(rows, mean.astype(np.float64), np.square(scale.astype(np.float64)) * rows)


def merged(moments: Moments, rows: NDArray[np.floating]) -> Moments:
    """The moments with float[B, D] more rows.

    Source: Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance".
    """
    total = moments.rows + len(rows)
    mean = rows.mean(axis=0, dtype=np.float64)
    square = np.square(rows - mean).sum(axis=0, dtype=np.float64)
    delta = mean - moments.mean
    return Moments(
        total,
        moments.mean + delta * (len(rows) / total),
        moments.square + square + np.square(delta) * (moments.rows * len(rows) / total),
    )
