"""A small tree over observations that says where a policy does what: its leaves are the situations of a report.

Source: Breiman, Friedman, Olshen, Stone (1984), "Classification and Regression Trees"; grown best split first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

MAX_REGIONS: Final = 4
MAX_DEPTH: Final = 2
"""Conditions on a report's region at most: people hold no more in mind."""
LEAST_SHARE: Final = 0.03
"""Of all decisions, in a region."""
LEAST_GAIN: Final = 0.01
"""Of all variance, that a split must explain."""
MAX_FITTED: Final = 8_192
"""Decisions that the tree is grown on: evenly spaced ones."""
_CUTS: Final = 32
"""Thresholds that are tried for a feature: its quantiles."""
Of = TypeVar("Of")


class Condition(NamedTuple, Generic[Of]):
    """One bound: on a feature by its place, or, of rules, on a sum of two."""

    of: Of
    side: Literal["<=", ">"]
    threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Decisions between bounds: mask bool[M]."""

    conditions: tuple[Condition[int], ...]
    mask: NDArray[np.bool_]


class _Split(NamedTuple):
    gain: float
    region: Region
    feature: int
    threshold: float


def regions(
    obs: NDArray[np.float32], targets: NDArray[np.float64], most: int = MAX_REGIONS, depth: int = MAX_DEPTH
) -> list[Region]:
    """Split M decisions where what is decided differs most, into so many regions of so many conditions at most.

    obs: float32[M, D]. targets: float64[M, T], actions as ones and zeros, or continuous ones in one measure: the sum
    of their squared errors is made small (of ones and zeros that is Gini's impurity). One region where nothing tells.
    """
    assert obs.ndim == targets.ndim == 2, (obs.shape, targets.shape)
    assert len(obs) == len(targets), (obs.shape, targets.shape)
    every = -(-len(obs) // MAX_FITTED) or 1
    grown = _grown(obs[::every], targets[::every], most, depth)
    return [Region(one.conditions, holding(one.conditions, obs)) for one in grown]


def _grown(obs: NDArray[np.float32], targets: NDArray[np.float64], most: int, depth: int) -> list[Region]:
    """Split the best region, again and again."""
    found = [Region((), np.ones(len(obs), bool))]
    total = _error(targets)
    cuts = _cuts(obs)
    open_splits = [_best(found[0], obs, targets, cuts)]
    while len(found) < most:
        best = max((split for split in open_splits if split), key=lambda split: split.gain, default=None)
        if best is None or best.gain <= LEAST_GAIN * total:
            break
        place = next(number for number, one in enumerate(found) if one is best.region)
        parts = _parts(best, obs)
        found[place : place + 1] = parts
        deeper = len(parts[0].conditions) < depth
        open_splits[place : place + 1] = [_best(part, obs, targets, cuts) if deeper else None for part in parts]
    return found


def explained(found: Sequence[Region], targets: NDArray[np.float64]) -> float:
    """Return which share of the targets' variance the regions explain, 0 to 1."""
    total = _error(targets)
    return 1.0 - sum(_error(targets[one.mask]) for one in found) / total if total else 1.0


def told(conditions: Sequence[Condition[int]], names: Sequence[str]) -> str:
    """Write a region for people: 0.05 < pole_angle <= 0.2 and cart_speed > 1."""
    parts = []
    for feature in dict.fromkeys(one.of for one in conditions):
        low, high = bounds(conditions, feature)
        name = names[feature].replace(",", " ")
        if math.isfinite(low) and math.isfinite(high):
            parts.append(f"{_short(low)} < {name} \u2264 {_short(high)}")
        else:
            parts.append(f"{name} > {_short(low)}" if math.isfinite(low) else f"{name} \u2264 {_short(high)}")
    return " and ".join(parts)


def bounds(conditions: Sequence[Condition[Of]], of: Of) -> tuple[float, float]:
    """Return the bounds that the conditions set: low < what they are about <= high."""
    low = max((one.threshold for one in conditions if one[:2] == (of, ">")), default=-math.inf)
    return low, min((one.threshold for one in conditions if one[:2] == (of, "<=")), default=math.inf)


def _short(number: float) -> str:
    """Write a threshold, of three significant digits."""
    return f"{number:.0f}" if 1e3 <= abs(number) < 1e6 else f"{number:.3g}"


def _error(targets: NDArray[np.float64]) -> float:
    return float(np.square(targets - targets.mean(axis=0)).sum()) if len(targets) else 0.0


def _cuts(obs: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    """Return each feature's thresholds, of three significant digits, so that what is told is what was split by."""
    levels = np.linspace(0.0, 1.0, _CUTS + 1)[1:-1]
    found = []
    for column in obs.T:
        finite = column[np.isfinite(column)].astype(np.float64)
        quantiles = np.quantile(finite, levels) if len(finite) else np.zeros(0)
        found.append(np.unique([float(f"{one:.3g}") for one in quantiles]))
    return found


def _best(
    region: Region, obs: NDArray[np.float32], targets: NDArray[np.float64], cuts: list[NDArray[np.float64]]
) -> _Split | None:
    """Return the split of a region that explains most; None where none is allowed."""
    seen, wanted = obs[region.mask], targets[region.mask]
    least = max(2, int(LEAST_SHARE * len(obs)))
    best = None
    for feature, thresholds in enumerate(cuts):
        gains = _gains(seen[:, feature], wanted, thresholds, least)
        place = int(gains.argmax()) if len(gains) else 0
        if len(gains) and gains[place] > 0.0 and (best is None or gains[place] > best.gain):
            best = _Split(float(gains[place]), region, feature, float(thresholds[place]))
    return best


def _gains(
    column: NDArray[np.float32], targets: NDArray[np.float64], thresholds: NDArray[np.float64], least: int
) -> NDArray[np.float64]:
    """By how much each threshold lowers the squared error; 0 where a part would be too small."""
    # n1 n2 / n |m1 - m2|^2 is what two means explain beyond one.
    bins = np.searchsorted(thresholds, column.astype(np.float64), side="left")  # below or at the cut: its left
    counts = np.bincount(bins, minlength=len(thresholds) + 1).astype(np.float64)
    sums = np.array([np.bincount(bins, one, minlength=len(thresholds) + 1) for one in targets.T])
    left, left_sums = counts.cumsum()[:-1], sums.cumsum(axis=1)[:, :-1]
    right, right_sums = len(column) - left, sums.sum(axis=1, keepdims=True) - left_sums
    allowed = (left >= least) & (right >= least)
    n1, n2 = np.where(allowed, left, 1.0), np.where(allowed, right, 1.0)
    distance = np.square(left_sums / n1 - right_sums / n2).sum(axis=0)
    return np.where(allowed, n1 * n2 / (n1 + n2) * distance, 0.0)


def _parts(split: _Split, obs: NDArray[np.float32]) -> list[Region]:
    sides = (Condition(split.feature, "<=", split.threshold), Condition(split.feature, ">", split.threshold))
    parts = [(*split.region.conditions, side) for side in sides]
    return [Region(conditions, holding(conditions, obs)) for conditions in parts]


def holding(conditions: Sequence[Condition[int]], obs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where all conditions hold, bool[M]."""
    mask = np.ones(len(obs), bool)
    for feature, side, threshold in conditions:
        mask &= (obs[:, feature].astype(np.float64) > threshold) == (side == ">")
    return mask
