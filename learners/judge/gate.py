"""The gate: may a candidate policy serve? A paired comparison on fixed traces, look by look, until it is sure."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from headrace.learners.judge.statistics import paired_difference

LOOKS: Final = 4
_CONFIDENCE: Final = 0.95
_BOUNDARY: Final = 2.024
"""O'Brien and Fleming's constant for four equal looks at 5 %, two-sided.

Looking again and again at a fixed level would promote chance. These bounds are so wide at the early looks that all
four together err in 5 % of the cases, and the last is nearly as narrow as that of one look alone. Source: Jennison,
Turnbull (2000), "Group Sequential Methods", table 2.3; the interval is their repeated confidence interval (ch. 9).
"""


@dataclasses.dataclass(frozen=True)
class GateVerdict:
    """What the gate decided, and the figures that it decided by.

    accepted: whether the candidate may serve. mean_difference: its return minus its opponent's, mean over the n paired
    traces that were needed. low, high: that mean's interval. confidence: the interval's level, whenever the gate
    stopped. opponent: "serving" or "floor": whom it was compared with. reason: the decision in one sentence.
    """

    accepted: bool
    mean_difference: float
    low: float
    high: float
    n: int
    confidence: float
    opponent: str
    reason: str


def judge(pairs: Iterable[tuple[np.ndarray, np.ndarray]], opponent: str) -> GateVerdict:
    """Accept the candidate iff the paired difference's interval lies above 0, at the first look where it does.

    It stops too where the interval lies below 0. A policy that serves has beaten the floor, or a policy that had.

    pairs: at most `LOOKS` pairs of float64[N], the candidate's and its opponent's returns on the same traces, of about
    equal N. No more are taken than are needed, so they may be computed when they are asked for. opponent: "serving", or
    "floor" while nothing serves. Raises ValueError where shapes differ, for fewer than two traces, more looks, or a
    return that isn't finite.
    """
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    verdict = None
    for pair in pairs:
        seen.append(pair)
        if len(seen) > LOOKS:
            raise ValueError(f"more than {LOOKS} looks: the bounds are made for so many")
        verdict = _look(seen, opponent)
        if verdict.low > 0.0 or verdict.high < 0.0:
            break
    if verdict is None:
        raise ValueError("no traces to judge by")
    return verdict


def _look(pairs: list[tuple[np.ndarray, np.ndarray]], opponent: str) -> GateVerdict:
    """Judge by the traces so far."""
    bound = _BOUNDARY * (LOOKS / len(pairs)) ** 0.5
    candidate, returns = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    mean, low, high, n = paired_difference(candidate, returns, confidence=math.erf(bound / 2**0.5))
    return GateVerdict(low > 0.0, mean, low, high, n, _CONFIDENCE, opponent, _reason(mean, low, high, n, opponent))


def _reason(mean: float, low: float, high: float, n: int, opponent: str) -> str:
    name = "the serving policy" if opponent == "serving" else "the floor baseline"
    if low > 0.0:
        verdict = f"beats {name}"
    elif high < 0.0:
        verdict = f"is worse than {name}"
    else:
        verdict = f"is not shown to beat {name}"
    return f"candidate {verdict}: {mean:+.3f} [{low:+.3f}, {high:+.3f}] on {n} paired traces"
