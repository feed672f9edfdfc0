"""How much error each candidate may spend, and what it is asked for in turn: a bound, and a number of traces.

Candidates are judged one after another against the same serving policy. At 2.5 % each, one of 28 equal ones would be
promoted as likely as not. So the k-th may err with probability alpha(k) only, and these sum to `FAMILY` over any number
of candidates: the chance that one that is not better is ever promoted against one serving policy.
"""

import math
from functools import lru_cache
from typing import Final

import numpy as np

from headrace.learners.judge.distributions import normal_below, normal_quantile

LOOKS: Final = 4
FAMILY: Final = 0.05
"""Probability, one-sided, of ever promoting what is not better than one serving policy."""
ALONE: Final = 0.025
"""The same of a single candidate that is judged once."""
_WEIGHTS: Final = 2.109742801236892
"""The sum of 1 / (n ln² n) over n from 2 on: it grows so slowly that each term is nearly as large as one may be."""
_POWER: Final = 0.8
"""What is as much better as 80 % of all trials of a first candidate would show is to be shown as often of any later."""
_NODES: Final = 128
_FAR: Final = 9.0
"""A sum of standard normals that lies further below 0 has no weight left, in its deviations."""


def place_of(version: int, opponent: int | None) -> int:
    """Return a candidate's place among those that met its opponent, from 1 on; opponent: its version, if any serves.

    After a rollback those that others met count too.
    """
    return max(1, version - (opponent or 0))


def spent(number: int) -> float:
    """Return alpha(k), one-sided, of the number-th candidate against a serving policy, from 1 on."""
    if number < 1:
        raise ValueError(f"candidates are numbered from 1 on, got {number}")
    return FAMILY / (_WEIGHTS * (number + 1) * math.log(number + 1) ** 2)


@lru_cache(maxsize=4096)
def boundary(alpha: float) -> float:
    """Return the constant c of the bounds c·√(LOOKS / k), k = 1 to LOOKS, that a standard normal mean exceeds at any
    look with probability alpha.

    Looking again and again at a fixed level would promote chance. These bounds are so wide at the early looks that all
    together err with alpha, and the last is nearly as narrow as that of one look alone. At .025: 2.024. Source:
    O'Brien and Fleming (1979); Jennison, Turnbull (2000), "Group Sequential Methods", table 2.3 and ch. 19.
    """  # noqa: D205 the formula needs the line
    low, high = normal_quantile(1.0 - alpha) if alpha > 1e-9 else 0.0, 40.0
    while high - low > 1e-6:
        middle = (low + high) / 2.0
        low, high = (middle, high) if _crossing(middle) > alpha else (low, middle)
    return high


def traces_for(number: int, first: int) -> int:
    """Return the traces of the number-th candidate: `first` for the first, later as many more as the bounds need."""
    power = normal_quantile(_POWER)
    growth = (boundary(spent(number)) + power) / (boundary(spent(1)) + power)
    return math.ceil(first * growth * growth / LOOKS) * LOOKS


def _crossing(constant: float) -> float:
    """Return the probability that a sum of LOOKS standard normals exceeds c·√LOOKS anywhere on its way.

    The density of the sums that have not, look by look, by Gauss-Legendre quadrature (Armitage et al. 1969).
    """
    top = constant * math.sqrt(LOOKS)
    bottom = -_FAR * math.sqrt(LOOKS)
    nodes, weights = _quadrature()
    sums = bottom + (top - bottom) * (nodes + 1.0) / 2.0
    weights = weights * (top - bottom) / 2.0
    steps = _density(sums[:, None] - sums[None, :])
    inside, crossed = _density(sums), float(normal_below(-top))
    for _ in range(LOOKS - 1):
        crossed += float(normal_below(sums - top) @ (weights * inside))
        inside = steps @ (weights * inside)
    return crossed


@lru_cache(maxsize=1)
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return np.asarray(nodes), np.asarray(weights)


def _density(values: np.ndarray) -> np.ndarray:
    density: np.ndarray = np.exp(-0.5 * values * values) / math.sqrt(2.0 * math.pi)
    return density
