"""Running mean and deviation of columns, merged batch by batch; what lies absurdly far off counts as merely far."""

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

INPUT_LIMIT: Final = 10.0
"""Deviations from the mean beyond which a value is cut off, before it is merged and before a network sees it."""
_RESOLUTION, _SMALLEST = 1e-6, 1e-12
"""A column that varies by less, of its mean or at all, is constant but for float32's rounding."""
_ROUNDS = 20
_WEIGHT_MAX = 1.0
"""Carrying a layer over makes no weight greater than this: what was cut off must not come back as a huge input."""

Floats = NDArray[np.floating]


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
        return np.where(deviation > np.maximum(_SMALLEST, _RESOLUTION * np.abs(self.mean)), deviation, 1.0)


def no_moments(width: int) -> Moments:
    """Of no rows of `width` columns."""
    return Moments(0, np.zeros(width), np.zeros(width))


def normalising(moments: Moments, mean: NDArray[np.floating], scale: NDArray[np.floating]) -> Moments:
    """Moments of as many rows that normalise as a policy does, float[D] each: the same where these do already."""
    if all(np.array_equal(own.astype(np.float32), of) for own, of in ((moments.mean, mean), (moments.scale, scale))):
        return moments
    rows = max(1, moments.rows)
    return Moments(rows, mean.astype(np.float64), np.square(scale.astype(np.float64)) * rows)


def merged(moments: Moments, rows: Floats, rows_max: int) -> Moments:
    """The moments with float[B, D] more rows, values beyond `INPUT_LIMIT` cut off.

    rows_max: so many rows count at most of those before; beyond it the moments are running ones.

    Source: Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance".
    """
    rows = np.clip(rows, *(_limits(moments) if moments.rows else _first_limits(rows)))
    before = min(moments.rows, rows_max)
    total = before + len(rows)
    mean = rows.mean(axis=0, dtype=np.float64)
    square = np.square(rows - mean).sum(axis=0, dtype=np.float64)
    delta = mean - moments.mean
    kept = moments.square * (before / max(1, moments.rows))
    return Moments(
        total,
        moments.mean + delta * (len(rows) / total),
        kept + square + np.square(delta) * (before * len(rows) / total),
    )


def _limits(moments: Moments) -> tuple[Floats, Floats]:
    reach = INPUT_LIMIT * moments.scale
    return moments.mean - reach, moments.mean + reach


def _first_limits(rows: Floats) -> tuple[Floats, Floats]:
    """Limits that hold all rows of float[B, D] but what is absurd: float64[D] each.

    They begin at the median and the typical distance from it, and widen to `INPUT_LIMIT` deviations of what lies
    between them: values of whatever size that make up less than a hundredth of the rows don't widen them for ever.
    """
    rows = rows.astype(np.float64)
    centre = np.median(rows, axis=0)
    reach = INPUT_LIMIT * typical_distance(rows - centre)
    low, high = centre - reach, centre + reach
    for _ in range(_ROUNDS):
        inside = np.clip(rows, low, high)
        mean, reach = inside.mean(axis=0), INPUT_LIMIT * inside.std(axis=0)
        low, high = np.minimum(low, mean - reach), np.maximum(high, mean + reach)
    return low, high


def typical_distance(offsets: Floats) -> Floats:
    """The median size of the offsets that are not 0, column by column: float[B, D] -> float[D]; 0 where all are."""
    sizes = np.sort(np.abs(offsets), axis=0)
    zeros = (sizes == 0.0).sum(axis=0)
    middle = np.minimum(zeros + (len(sizes) - zeros) // 2, len(sizes) - 1)
    typical: Floats = np.take_along_axis(sizes, middle[None], axis=0)[0]
    return typical


def carry_over(before: Moments, after: Moments, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Rewrite a first layer in place, so that it makes of inputs normalised by `after` what it made of `before`'s.

    weight: float32[D, H], the rows of the normalised inputs alone. bias: float32[H].
    """
    shift, factor = (after.mean - before.mean) / before.scale, after.scale / before.scale
    bias += torch.from_numpy(shift.astype(np.float32)) @ weight
    limit = weight.abs().clamp_(min=_WEIGHT_MAX)
    weight.mul_(torch.from_numpy(factor.astype(np.float32))[:, None])
    weight.copy_(torch.minimum(torch.maximum(weight, -limit), limit))
