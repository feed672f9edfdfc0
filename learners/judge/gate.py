"""The gate: may a candidate policy serve? A paired comparison on fixed traces, look by look, until it is sure."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from headrace.learners.judge.statistics import paired_difference

OPPONENTS: Final = {"serving": "the serving policy", "floor": "the floor baseline", "best": "the best version so far"}
"""Whom a candidate is compared with, and what a reason calls it. An on-policy learner's best need not serve."""
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
    stopped. opponent: one of `OPPONENTS`: whom it was compared with. reason: the decision in one sentence.
    """

    accepted: bool
    mean_difference: float
    low: float
    high: float
    n: int
    confidence: float
    opponent: str
    reason: str


def judge(pairs: Iterable[tuple[np.ndarray, np.ndarray]], opponent: str, margin: float = 0.0) -> GateVerdict:
    """Accept the candidate iff the paired difference's interval lies above 0, at the first look where it does.

    It stops too where the interval lies below 0. A policy that serves has beaten the floor, or a policy that had.

    margin: where it is positive the candidate need not be better: it must be shown to be no worse than by so many
    standard deviations of the returns (the two policies' pooled), so the intervals must lie above that (FDA 2016,
    "Non-Inferiority Clinical Trials").

    pairs: at most `LOOKS` pairs of float64[N], the candidate's and its opponent's returns on the same traces, of about
    equal N. No more are taken than are needed, so they may be computed when they are asked for. opponent: one of
    `OPPONENTS`, "floor" while nothing serves. Raises ValueError where shapes differ, for fewer than two traces, more
    looks, or a return that isn't finite.
    """
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    verdict = None
    for pair in pairs:
        seen.append(pair)
        if len(seen) > LOOKS:
            raise ValueError(f"more than {LOOKS} looks: the bounds are made for so many")
        verdict, sure = _look(seen, opponent, margin)
        if sure:
            break
    if verdict is None:
        raise ValueError("no traces to judge by")
    return verdict


def _look(pairs: list[tuple[np.ndarray, np.ndarray]], opponent: str, margin: float) -> tuple[GateVerdict, bool]:
    """Judge by the traces so far; whether more of them need not be looked at."""
    bound = _BOUNDARY * (LOOKS / len(pairs)) ** 0.5
    candidate, returns = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    mean, low, high, n = paired_difference(candidate, returns, confidence=math.erf(bound / 2**0.5))
    allowed = margin * float(np.sqrt((candidate.var() + returns.var()) / 2.0))
    accepted = low > 0.0 or (margin > 0.0 and low >= -allowed)
    reason = _reason(mean, low, high, n, OPPONENTS[opponent], allowed)
    return GateVerdict(accepted, mean, low, high, n, _CONFIDENCE, opponent, reason), accepted or high < -allowed


def _reason(mean: float, low: float, high: float, n: int, name: str, allowed: float) -> str:
    if low > 0.0:
        verdict = f"beats {name}"
    elif allowed and low >= -allowed:
        verdict = f"is no more than {allowed:.3f} worse than {name}"
    elif high < -allowed:
        verdict = f"is worse than {name}" + (f" by more than {allowed:.3f}" if allowed else "")
    elif allowed:
        verdict = f"may be more than {allowed:.3f} worse than {name}"
    else:
        verdict = f"is not shown to beat {name}"
    return f"candidate {verdict}: {mean:+.3f} [{low:+.3f}, {high:+.3f}] on {n} paired traces"
