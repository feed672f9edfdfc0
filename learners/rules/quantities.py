"""What conditions are about: an observation, or one and so many times another. NumPy only.

Many controllers go by how two things stand to each other: the load to the servers, an angle to its speed. Bounds on
each of two observations can only cut such a line into steps, and each step is a rule.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_SUMS: Final = 16
"""Sums of two observations that rules may go by, beside every observation alone."""
_MAX_EACH: Final = 4
"""Of these, with the same observation."""
_MAX_PAIRED: Final = 64
"""Observations that are tried in pairs: those that alone tell most."""
_REACH: Final = 10.0
"""By how much, at most, one of the two moves a sum more than the other."""


class Quantity(NamedTuple):
    """An observation by its place, and `times` another; times is 0 of one alone."""

    feature: int
    times: float = 0.0
    other: int = 0


def values(obs: NDArray[np.floating], quantities: Sequence[Quantity]) -> NDArray[np.float32]:
    """float32[N, D] -> float32[N, Q]."""
    first, times, other = (np.array(column) for column in zip(*quantities, strict=True))
    seen = obs.astype(np.float32, copy=False)
    found: NDArray[np.float32] = seen[:, first] + times.astype(np.float32) * seen[:, other]
    return found


def quantities(obs: NDArray[np.float32], costs: NDArray[np.float64]) -> list[Quantity]:
    """Return each observation, and the sums of two that tell more than either alone of what actions cost.

    obs: float32[N, D]. costs: float64[N, K]. Told is what a linear regression explains of costs less their mean.
    """
    alone = [Quantity(feature) for feature in range(obs.shape[1])]
    seen, wanted = obs.astype(np.float64), costs - costs.mean(axis=1, keepdims=True)
    spread = seen.std(axis=0)
    varied = np.flatnonzero(spread > 0.0)
    x, y = (seen[:, varied] - seen[:, varied].mean(axis=0)) / spread[varied], wanted - wanted.mean(axis=0)
    told = x.T @ y / len(x)  # [D, K]
    most = np.sort(np.argsort(-np.square(told).sum(axis=1), kind="stable")[:_MAX_PAIRED])
    x, told, varied = x[:, most], told[most], varied[most]
    return alone + _chosen(x.T @ x / len(x), told, varied, spread[varied])


def _chosen(
    shared: NDArray[np.float64], told: NDArray[np.float64], places: NDArray[np.intp], spread: NDArray[np.float64]
) -> list[Quantity]:
    """Return the best sums. shared: float64[D, D], correlations. told: float64[D, K], covariances with the costs."""
    rest = np.maximum(1.0 - np.square(shared), 1e-3)[..., None]
    mine, theirs = told[:, None], told[None]
    # The two coefficients of a regression on two standardised features, and what it explains beyond the better one.
    first, second = (mine - shared[..., None] * theirs) / rest, (theirs - shared[..., None] * mine) / rest
    gains = first * mine + second * theirs - np.maximum(np.square(mine), np.square(theirs))
    ratio = second / np.where(first == 0.0, np.inf, first)
    # Of each pair once: the one that moves the sum more is named first.
    gains[(np.abs(ratio) > 1.0) | (np.abs(ratio) < 1.0 / _REACH) | np.eye(len(told), dtype=bool)[..., None]] = 0.0
    found: dict[tuple[int, int], Quantity] = {}
    uses = np.zeros(len(told), int)
    for place in np.argsort(-gains, axis=None, kind="stable"):
        i, j, k = np.unravel_index(place, gains.shape)
        if gains[i, j, k] <= 0.0 or len(found) == MAX_SUMS:
            break
        pair = (min(i, j), max(i, j))
        if pair not in found and uses[[i, j]].max() < _MAX_EACH:
            times = float(f"{ratio[i, j, k] * spread[i] / spread[j]:.2g}")
            found[pair] = Quantity(int(places[i]), times, int(places[j]))
            uses[[i, j]] += 1
    return [*found.values()]
