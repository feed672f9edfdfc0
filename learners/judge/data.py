"""The gate where there is no simulator: would a candidate have earned more, by the rows that agents sent?"""

import dataclasses
from typing import Final

import numpy as np

from headrace.learners import seeds
from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.judge.gate import OPPONENTS
from headrace.learners.judge.ope import Bounded, Evaluation, evaluated, interval_of
from headrace.learners.judge.spending import ALONE
from headrace.schemas.transition import TransitionBatch

ESTIMATOR: Final = "fitted Q evaluation"
NEEDED_ROWS: Final = 1_000
"""Effective rows that must show the candidate's own decisions: with fewer the interval was not tried."""
MAX_ACTIONS: Final = 64
"""More discrete actions would leave too few features for each."""


@dataclasses.dataclass(frozen=True, slots=True)
class DataVerdict:
    """What the rows say of a candidate.

    difference: its discounted return less its opponent's, with its interval; None where there was too little to judge
    by. returns: of "policy" and of its opponent ("serving", or "agents": what they did). rows,
    effective_rows, groups: as in `Evaluation`, effective ones of the candidate.
    """

    accepted: bool
    reason: str
    difference: Bounded | None = None
    returns: dict[str, float] = dataclasses.field(default_factory=dict)
    rows: int = 0
    effective_rows: float = 0.0
    groups: int = 0


def judge_by_data(
    rows: TransitionBatch | None,
    candidate: Policy | BoxPolicy,
    serving: Policy | BoxPolicy | None,
    actions: int,
    discount: float,
    alpha: float = ALONE,
) -> DataVerdict:
    """Accept the candidate iff the interval of the paired difference lies above 0.

    rows: the newest ones, whoever acted; None for none. serving: what it must beat; None while nothing serves, when it
    must beat what the agents did themselves. actions: how many discrete ones there are, 0 for continuous ones. alpha:
    how likely a candidate may be accepted that is no better, one-sided.
    """
    if actions > MAX_ACTIONS:
        return DataVerdict(False, f"can't be judged by data: the task has {actions} actions, {MAX_ACTIONS} at most can")
    if rows is None or len(rows) < NEEDED_ROWS:
        count = 0 if rows is None else len(rows)
        return DataVerdict(False, f"can't be judged by data yet: {count} rows of the {NEEDED_ROWS} needed", rows=count)
    found = evaluated(rows, [candidate, serving], actions, discount, seeds.FITS.first)
    effective = found.effective[0]
    if effective < NEEDED_ROWS:
        reason = (
            f"can't be judged by data: effective sample size {effective:.0f} of the {NEEDED_ROWS} needed; of "
            f"{found.rows} rows too few show what the candidate would do"
        )
        return DataVerdict(False, reason, rows=found.rows, effective_rows=effective, groups=found.groups)
    return _verdict(found, "agents" if serving is None else "serving", alpha)


def _beside(found: Evaluation, alpha: float) -> str:
    """Tell what the same difference is by log_prob too, where the rows have it; it decides nothing."""
    if not found.robust:
        return ""
    mean, low, high = interval_of(found.robust[0] - found.robust[1], found.groups, 1.0 - 2.0 * alpha)
    steps = min(found.steps)
    return f"; doubly robust, by log_prob over {steps} steps: {mean:+.4g} [{low:+.4g}, {high:+.4g}]"


def _verdict(found: Evaluation, opponent: str, alpha: float) -> DataVerdict:
    difference = interval_of(found.values[0] - found.values[1], found.groups, 1.0 - 2.0 * alpha)
    mean, low, high = difference
    returns = {"policy": float(np.mean(found.values[0])), opponent: float(np.mean(found.values[1]))}
    name = OPPONENTS[opponent]
    said = f"beats {name}" if low > 0.0 else f"is worse than {name}" if high < 0.0 else f"is not shown to beat {name}"
    reason = (
        f"candidate {said} by {ESTIMATOR}: discounted return {mean:+.4g} [{low:+.4g}, {high:+.4g}] "
        f"on {found.rows} rows (effective {found.effective[0]:.0f}){_beside(found, alpha)}"
    )
    return DataVerdict(low > 0.0, reason, difference, returns, found.rows, found.effective[0], found.groups)
