"""The gate: may a candidate policy serve? A paired comparison on fixed traces."""

import dataclasses

import numpy as np

from headrace.learners.statistics import MeanInterval, paired_difference


@dataclasses.dataclass(frozen=True)
class GateVerdict:
    """What the gate decided, and the figures that it decided by.

    Attributes:
        accepted: whether the candidate may serve.
        mean_difference: candidate's return minus its opponent's, mean over traces.
        low: lower bound of that mean's interval.
        high: upper bound.
        n: number of paired traces.
        confidence: the interval's level.
        opponent: "serving" or "floor": whom the candidate was compared with.
        reason: the decision in one sentence.
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
    candidate: np.ndarray,
    serving: np.ndarray | None,
    floor: np.ndarray,
    confidence: float = 0.95,
) -> GateVerdict:
    """Accept the candidate iff the paired difference's interval lies above 0.

    The opponent is the serving policy, or the floor baseline while nothing serves. A policy that
    serves has beaten the floor, or a policy that had.

    Args:
        candidate: float[N], one return per trace.
        serving: float[N], the serving policy's returns on the same traces, or None.
        floor: float[N], the baseline's returns on the same traces.
        confidence: level of the two-sided interval.

    Raises:
        ValueError: shapes differ, fewer than two traces, or a return that isn't finite.
    """
    opponent, returns = ("floor", floor) if serving is None else ("serving", serving)
    interval = paired_difference(candidate, returns, confidence)
    accepted = interval.low > 0.0
    return GateVerdict(
        accepted=accepted,
        mean_difference=interval.mean,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        confidence=confidence,
        opponent=opponent,
        reason=_reason(interval, opponent, accepted=accepted),
    )


def _reason(interval: MeanInterval, opponent: str, *, accepted: bool) -> str:
    name = "the serving policy" if opponent == "serving" else "the floor baseline"
    if accepted:
        verdict = f"beats {name}"
    elif interval.high < 0.0:
        verdict = f"is worse than {name}"
    else:
        verdict = f"is not shown to beat {name}"
    figures = f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
    return f"candidate {verdict}: {figures} on {interval.n} paired traces"
