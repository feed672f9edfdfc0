"""Normal draws that bounds cut: a bound has the probability of all that lies beyond. NumPy only: agents act by it."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_ERFC: Final = (
    *(-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806),
    *(0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277),
)
_UNDERFLOW: Final = 30.0
"""Deviations beyond which erfc is 0 in float64."""
_LOG_ROOT_2_PI: Final = 0.5 * np.log(2.0 * np.pi)


def side_of(actions: Floats, low: Floats, high: Floats) -> Floats:
    """Where actions float32[B, A] lie: 1 at the upper bound or beyond, -1 at the lower one, 0 within."""
    side: Floats = (actions >= high).astype(np.float32)
    return np.where((actions <= low) & (side == 0.0), np.float32(-1.0), side)


def log_prob_of(standardised: Floats, log_std: Floats, side: Floats) -> Floats:
    """Each dimension's log-density within the bounds, and its log-probability at one: float32[B, A].

    standardised: (action - mean) / deviation, float32[B, A]. log_std: float32[A]. side: as `side_of`.
    """
    log_prob: Floats = -0.5 * np.square(standardised) - log_std - np.float32(_LOG_ROOT_2_PI)
    cut = side != 0.0
    if cut.any():
        log_prob[cut] = log_tail(side[cut] * standardised[cut])
    return log_prob


def log_tail(at: Floats) -> Floats:
    """The log-probability of more than `at` under the standard normal, float64[K], however far out, to 2e-7.

    Source: Press et al. (1992), "Numerical Recipes", `erfcc`: a Chebyshev fit of log erfc.
    """
    at = np.asarray(at, np.float64)
    distance = np.abs(at) / np.sqrt(2.0)
    inverse = 1.0 / (1.0 + 0.5 * distance)
    series = np.polynomial.polynomial.polyval(inverse, _ERFC)
    beyond = np.log(0.5 * inverse) - np.square(distance) + series
    tail: Floats = np.where(at >= 0.0, beyond, np.log1p(-np.exp(beyond)))
    return tail


def log_tail_of(at: float) -> float:
    """`log_tail` of one number, a hundred times faster."""
    if at < _UNDERFLOW:
        return math.log(0.5 * math.erfc(at / math.sqrt(2.0)))
    return float(log_tail(np.array([at]))[0])


def hazard(at: Floats) -> Floats:
    """How fast `log_tail` falls at `at`, float64[K]: density over tail."""
    falls: Floats = np.exp(-0.5 * np.square(at) - _LOG_ROOT_2_PI - log_tail(at))
    return falls
