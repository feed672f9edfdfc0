"""Is a canary better or worse than what serves, asked after every window: a test that may look as often as it likes.

The difference of two ratios of sums over agents (rewards by ended episodes, or by rows where nothing ends), with agents
as the independent units, is held against the boundary of Robbins' normal mixture. Source: Robbins (1970), "Statistical
methods related to the law of the iterated logarithm"; Howard, Ramdas, McAuliffe, Sekhon (2021), "Time-uniform,
nonparametric, nonasymptotic confidence sequences", section 3.2.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

ALPHA: Final = 0.05
"""How likely the difference is called greater or less than 0 at any look, where it is 0; two-sided."""
SHARPEST_AT: Final = 20.0
"""Windows after which the boundary is at its narrowest."""
LEAST_AGENTS: Final = 2
"""Of each arm, that a variance may be told."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Look:
    """What the returns say by now: the canary's less the others', with the interval that holds at all looks together.

    agents: how many acted by the canary, and by what serves.
    """

    difference: float
    low: float
    high: float
    agents: tuple[int, int]


def boundary(time: float, alpha: float = ALPHA) -> float:
    """Return the deviations that a sum of standard normals exceeds at any time with probability alpha at most.

    sqrt((t + r) / t * ln((t + r) / (r alpha²))), where r makes it narrowest at about `SHARPEST_AT`.
    """
    evidence = -2.0 * math.log(alpha)
    rho = SHARPEST_AT / (evidence + math.log(1.0 + evidence))
    return math.sqrt((time + rho) / time * math.log((time + rho) / (rho * alpha * alpha)))


def look(
    canary: tuple[Floats, Floats], others: tuple[Floats, Floats], windows: int, alpha: float = ALPHA
) -> Look | None:
    """Compare two arms after so many windows; None where either has too few agents, or nothing to count by.

    canary, others: of each agent since the canary began, float64[N] sums of rewards, and of ended episodes or rows.
    The spread between agents is taken to be alike in both arms, as it is where the policies are; where the canary's own
    is greater, that counts.
    """
    counts = (len(canary[0]), len(others[0]))
    if windows < 1 or min(counts) < LEAST_AGENTS or not (canary[1].sum() > 0 and others[1].sum() > 0):
        return None
    (first, ours), (second, theirs) = _ratio(*canary), _ratio(*others)
    freedom = sum(counts) - 2
    pooled = (np.square(ours).sum() + np.square(theirs).sum()) / freedom
    own = np.square(ours).sum() / (counts[0] - 1)
    deviation = math.sqrt(max(pooled, own) / counts[0] + pooled / counts[1])
    # As seldom as a normal lies beyond the boundary, Student's t of so few agents lies beyond this.
    half = -float(stdtrit(freedom, ndtr(-boundary(windows, alpha)))) * deviation
    difference = first - second
    return Look(difference, difference - half, difference + half, counts)


def _ratio(tops: Floats, bottoms: Floats) -> tuple[float, Floats]:
    """The ratio of sums, and by agent the residuals whose mean is its error (Cochran 1977, section 2.11)."""
    ratio = float(tops.sum() / bottoms.sum())
    residuals: Floats = (tops - ratio * bottoms) / bottoms.mean()
    return ratio, residuals
