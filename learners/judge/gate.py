"""The gate: may a candidate policy serve? A paired comparison on fresh traces, look by look, until it is sure."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from headrace.learners.judge.distributions import normal_below
from headrace.learners.judge.spending import ALONE, LOOKS, boundary
from headrace.learners.judge.statistics import MeanInterval, skewed_interval

OPPONENTS: Final = {
    "serving": "the serving policy",
    "floor": "the floor baseline",
    "best": "the best version so far",
    "agents": "what the agents did",
}
"""Whom a candidate is compared with, and what a reason calls it. An on-policy learner's best need not serve."""


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


def judge(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], opponent: str, alpha: float = ALONE, margin: float = 0.0
) -> GateVerdict:
    """Accept the candidate iff the paired difference's interval lies above 0, at the first look where it does.

    It stops too where the interval lies below 0, and from the second look on where the candidate has done no better
    than its opponent so far: it would hardly ever pass, and a refusal errs in no case. Where it does better by the same
    in every trace it goes on to the last: that says nothing of what is rare. A policy that serves has beaten the floor,
    or a policy that had.

    margin: where it is positive the candidate need not be better: it must be shown to be no worse than by so many
    standard deviations of the returns (the two policies' pooled), so the intervals must lie above that (FDA 2016,
    "Non-Inferiority Clinical Trials").

    pairs: at most `LOOKS` pairs of float64[N], the candidate's and its opponent's returns on the same traces, of about
    equal N. No more are taken than are needed, so they may be computed when they are asked for. opponent: one of
    `OPPONENTS`, "floor" while nothing serves. alpha: how likely a candidate may be accepted that is no better than its
    opponent (with a margin: that is worse by as much), all looks together, one-sided: `spending.spent` of its number.
    Raises ValueError where shapes differ, for fewer than two traces, more looks, or a return that isn't finite.
    """
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    found = None
    for pair in pairs:
        seen.append(pair)
        if len(seen) > LOOKS:
            raise ValueError(f"more than {LOOKS} looks: the bounds are made for so many")
        found, allowed = _look(seen, alpha), margin * _spread(seen)
        passed, alike = found.low > 0.0 or (margin > 0.0 and found.low >= -allowed), found.low == found.high
        if (passed and not alike) or found.high < -allowed or (len(seen) > 1 and found.mean <= -allowed):
            break
    if found is None:
        raise ValueError("no traces to judge by")
    reason = _reason(found, OPPONENTS[opponent], alpha, allowed)
    return GateVerdict(passed, *found, 1.0 - 2.0 * alpha, opponent, reason)


def _look(pairs: list[tuple[np.ndarray, np.ndarray]], alpha: float) -> MeanInterval:
    """Return the difference on the traces so far, with the repeated confidence interval of level 1 - 2 alpha.

    Source: Jennison, Turnbull (2000), "Group Sequential Methods", ch. 9.
    """
    bound = boundary(alpha) * math.sqrt(LOOKS / len(pairs))
    candidate, returns = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    if candidate.shape != returns.shape:
        raise ValueError(f"paired values must have equal shapes, got {candidate.shape} and {returns.shape}")
    return skewed_interval(candidate - returns, float(normal_below(-bound)))


def _spread(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the standard deviation of the returns, the two policies' pooled."""
    candidate, returns = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    return math.sqrt((candidate.var() + returns.var()) / 2.0)


def _reason(found: MeanInterval, name: str, alpha: float, allowed: float) -> str:
    if found.low > 0.0:
        verdict = f"beats {name}"
    elif allowed and found.low >= -allowed:
        verdict = f"is no more than {allowed:.3f} worse than {name}"
    elif found.high < -allowed:
        verdict = f"is worse than {name}" + (f" by more than {allowed:.3f}" if allowed else "")
    elif allowed:
        verdict = f"may be more than {allowed:.3f} worse than {name}"
    else:
        verdict = f"is not shown to beat {name}"
    interval = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}; {100.0 * (1.0 - 2.0 * alpha):.6g} %]"
    return f"candidate {verdict}: {interval} on {found.n} paired traces"
