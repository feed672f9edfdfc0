"""The nearest change of an observation after which a policy acts otherwise: of one feature, else of two.

Every feature is tried on a grid over the range that data had, the others held as they are, and the edge is found by
bisection. A band that is narrower than a step of the grid can be missed.

Source: Wachter, Mittelstadt, Russell (2017), "Counterfactual Explanations without Opening the Black Box".
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

GRID: Final = 33
"""Values of a feature that are tried; of one that had no more, the ones that it had."""
PAIR_GRID: Final = 11
"""Values of each of two features."""
MOST_FEATURES: Final = 32
"""Features that are tried alone: those that come first."""
MOST_PAIRED: Final = 6
"""Features that are tried in pairs."""
_HALVINGS: Final = 16

FloatArray = NDArray[np.float64]
Flips = Callable[[NDArray[np.float32]], NDArray[np.bool_]]
"""Says of observations float32[B, D] where the policy acts otherwise: bool[B]."""


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """What values a feature had. values: float64[K], ascending, to be tried. whole: whether it had no others."""

    values: FloatArray
    whole: bool

    @property
    def width(self) -> float:
        """The highest less the lowest; 1 where they are the same."""
        return float(self.values[-1] - self.values[0]) or 1.0


@dataclass(frozen=True, slots=True)
class Flip:
    """A change after which the policy acts otherwise: by feature its value. distance: in shares of the spans."""

    values: dict[int, float]
    distance: float

    def applied(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the changed observation, float32[D]."""
        changed = obs.copy()
        changed[[*self.values]] = [*self.values.values()]
        return changed


def spans(obs: NDArray[np.float32]) -> list[Span]:
    """Return what values each feature had in rows, float32[M, D]; M of 1 or more."""
    found = []
    for column in obs.astype(np.float64).T:
        values = np.unique(column[np.isfinite(column)])
        whole = 0 < len(values) <= GRID
        found.append(Span(values if whole else np.linspace(values[0], values[-1], GRID), whole))
    return found


def nearest_flip(
    flips: Flips, obs: NDArray[np.float32], found: Sequence[Span], order: Sequence[int]
) -> tuple[Flip | None, int]:
    """Return the nearest flip of the fewest features, None where there is none; and how many features were tried.

    obs: float32[D]. order: features, those to be tried first first; of equally near flips theirs is returned.
    """
    tried = [place for place in order if found[place].values[0] < found[place].values[-1]][:MOST_FEATURES]
    single = _single(flips, obs, found, tried)
    return single or _paired(flips, obs, found, tried[:MOST_PAIRED]), len(tried)


def _single(flips: Flips, obs: NDArray[np.float32], found: Sequence[Span], tried: Sequence[int]) -> Flip | None:
    """Try each feature alone."""
    counts = [len(found[place].values) for place in tried]
    if not counts:
        return None
    features, values = np.repeat(tried, counts), np.concatenate([found[place].values for place in tried])
    flipped = np.split(flips(_changed(obs, features, values)), np.cumsum(counts)[:-1])
    edges = [
        edge
        for place, mask in zip(tried, flipped, strict=True)
        if mask.any()
        for edge in _edges(float(obs[place]), place, found[place], mask)
    ]
    if not edges:
        return None
    features, inside, outside = (np.array(column) for column in zip(*edges, strict=True))
    widths = np.array([found[place].width for place in features])
    least, most = (np.abs(edge - obs[features]) / widths for edge in (inside, outside))
    near_enough = least <= most.min()
    features, inside, outside, widths = (one[near_enough] for one in (features, inside, outside, widths))
    for _ in range(_HALVINGS if (inside != outside).any() else 0):
        middle = (inside + outside) / 2.0
        over = flips(_changed(obs, features, middle))
        inside, outside = np.where(over, inside, middle), np.where(over, middle, outside)
    near = int((np.abs(outside - obs[features]) / widths).argmin())
    return _told(flips, obs, found, {int(features[near]): float(outside[near])})


def _edges(here: float, place: int, span: Span, mask: NDArray[np.bool_]) -> list[tuple[int, float, float]]:
    """Return (feature, last value as it is, first one that flips) on either side; of a whole span the latter twice."""
    below, above = np.searchsorted(span.values, here, "left"), np.searchsorted(span.values, here, "right")
    found = []
    for values, flipped in ((span.values[:below][::-1], mask[:below][::-1]), (span.values[above:], mask[above:])):
        if flipped.any():
            first = int(flipped.argmax())
            edge, before = float(values[first]), float(values[first - 1]) if first else here
            found.append((place, edge if span.whole else before, edge))
    return found


def _paired(flips: Flips, obs: NDArray[np.float32], found: Sequence[Span], tried: Sequence[int]) -> Flip | None:
    """Try features two by two, and go back along the line to where the policy begins to act otherwise."""
    best: Flip | None = None
    for pair in combinations(tried, 2):
        rows = np.stack(np.meshgrid(*(_thinned(found[place].values) for place in pair)), axis=-1).reshape(-1, 2)
        flipped = rows[flips(_changed(obs, np.array(pair), rows))]
        if len(flipped):
            sizes = np.array([found[place].width for place in pair])
            near = flipped[np.square((flipped - obs[[*pair]]) / sizes).sum(axis=1).argmin()]
            if not any(found[place].whole for place in pair):
                near = _drawn_back(flips, obs, np.array(pair), near)
            one = _told(flips, obs, found, dict(zip(pair, near.tolist(), strict=True)))
            best = one if best is None or one.distance < best.distance else best
    return best


def _thinned(values: FloatArray) -> FloatArray:
    found: FloatArray = values[np.unique(np.linspace(0, len(values) - 1, PAIR_GRID).round().astype(int))]
    return found


def _drawn_back(flips: Flips, obs: NDArray[np.float32], pair: NDArray[np.int64], outside: FloatArray) -> FloatArray:
    inside = obs[pair].astype(np.float64)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2.0
        if flips(_changed(obs, pair, middle[None]))[0]:
            outside = middle
        else:
            inside = middle
    return outside


def _changed(obs: NDArray[np.float32], features: NDArray[np.int64], values: FloatArray) -> NDArray[np.float32]:
    """Return copies of an observation: of each row one feature changed, or, of values [B, 2], the same two."""
    rows = np.repeat(obs[None], len(values), axis=0)
    if values.ndim == 2:
        rows[:, features] = values
    else:
        rows[np.arange(len(values)), features] = values
    return rows


def _told(flips: Flips, obs: NDArray[np.float32], found: Sequence[Span], values: dict[int, float]) -> Flip:
    """Make the flip: of three significant digits, where those flip too, so that what is told is what holds."""
    for away in (False, True):
        told = {place: _rounded(value, float(obs[place]), away=away) for place, value in values.items()}
        within = all(_within(value, found[place], float(obs[place])) for place, value in told.items())
        if within and flips(Flip(told, 0.0).applied(obs)[None])[0]:
            values = told
            break
    distance = math.hypot(*((value - float(obs[place])) / found[place].width for place, value in values.items()))
    return Flip(values, distance)


def _within(value: float, span: Span, here: float) -> bool:
    """Whether a value lies in the span, or on the way there."""
    return bool(min(span.values[0], here) <= value <= max(span.values[-1], here))


def _rounded(value: float, here: float, *, away: bool) -> float:
    """Round to three significant digits, away: from here."""
    if away and value != 0.0:
        unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
        value = unit * (math.ceil(value / unit) if value > here else math.floor(value / unit))
    return float(f"{value:.3g}")
