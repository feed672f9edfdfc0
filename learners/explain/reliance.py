"""What a version's decisions go by as a whole: how much of them each observation accounts for."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.explain.attribution import FloatArray, Target, attributed, by_name, lead_over, within
from headrace.learners.explain.studied import action_range

SAMPLED: Final = 64
"""Decisions that are looked at, evenly spaced ones."""


def reliance(policy: Policy | BoxPolicy, names: Sequence[str], obs: NDArray[np.float32]) -> dict[str, float]:
    """Return each observation's share of all attributions' sizes, in %, the greatest first; {} where nothing counts.

    obs: float32[M, D], of decisions. What is attributed is the lead of the best action over the second best, or the
    dimension of a continuous action that lies farthest from its usual value; the baseline is the mean of `obs`.
    """
    if not len(obs) or (policy.actions < 2 and isinstance(policy, Policy)):
        return {}
    typical = obs.mean(axis=0, dtype=np.float64)
    sampled = obs[:: -(-len(obs) // SAMPLED)]
    parts = np.array([attributed(policy, typical, row, _target(policy, typical, row)) for row in sampled])
    sizes = {name: float(np.abs(parts[:, places].sum(axis=1)).sum()) for name, places in by_name(names).items()}
    total = sum(sizes.values())
    return {name: 100.0 * sizes[name] / total for name in sorted(sizes, key=lambda one: -sizes[one])} if total else {}


def _target(policy: Policy | BoxPolicy, typical: FloatArray, row: NDArray[np.float32]) -> Target:
    if isinstance(policy, Policy):
        second, best = np.argsort(policy.q_values(row[None])[0], kind="stable")[-2:]
        return lead_over(int(best), int(second))
    own, usual = policy.act(np.stack([row, typical.astype(np.float32)])).astype(np.float64)
    unit, (low, high) = action_range(policy), policy.bounds
    place = int((np.abs(own - usual) / unit).argmax())
    return within(place, float(low[place]), float(high[place]), float(unit[place]))
