"""What a policy of CloudService-v0 is given beside its observation: linear features, and a rule as a prior.

Both are fixed sums of the four stacked frames, stored in the policy's own arrays, so that acting needs
no code of this module. The hard part of the task is a small difference of two large inputs, the replicas
that the rate asks for less those that there are; as inputs of their own such differences are learned
many times faster.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.cloud.plant import (
    ACTION_NAMES,
    ACTION_ZERO,
    FEATURES,
    FRAMES,
    OBSERVATION_NAMES,
    PENDING,
    RATE,
    RATE_UNIT_RPS,
    READY,
    REPLICAS_MAX,
    SERVICE_RATE_RPS,
)
from headrace.learners.prior import RulePrior, rule_prior

FloatArray = NDArray[np.float64]

TARGET: Final = 0.6
PRIOR_STRENGTH: Final = 2.0
TYPICAL_REPLICAS: Final = 1.0
AVERAGES: Final = ((0.0, 0.0, 0.0, 1.0), (0.125, 0.125, 0.25, 0.5), (0.25, 0.25, 0.25, 0.25))
"""Weights of the four frames, the oldest first: the newest rate, an average that halves, a plain one."""


def _frame(feature: int, age: int) -> FloatArray:
    """The unit vector float64[32] of a feature `age` frames ago."""
    row: FloatArray = np.zeros(FRAMES * FEATURES)
    row[(FRAMES - 1 - age) * FEATURES + feature] = 1.0
    return row


def _needed(weights: tuple[float, ...]) -> FloatArray:
    """Replicas that an average of the rates asks for at the target utilisation."""
    rate: FloatArray = sum((weight * _frame(RATE, FRAMES - 1 - i) for i, weight in enumerate(weights)), np.zeros(1))
    replicas: FloatArray = rate * (RATE_UNIT_RPS / (SERVICE_RATE_RPS * TARGET))
    return replicas


def _replicas(age: int = 0) -> FloatArray:
    pods: FloatArray = _frame(READY, age) + _frame(PENDING, age)
    return pods * REPLICAS_MAX


def cloud_features() -> NDArray[np.float32]:
    """float32[32, 8]: gaps (needed less present replicas, by three averages, and to the ready ones), trends."""
    newest, halving, plain = (_needed(weights) for weights in AVERAGES)
    gaps = [average - _replicas() for average in (newest, halving, plain)]
    gaps.append(halving - _frame(READY, 0) * REPLICAS_MAX)
    trends = [
        newest - _needed((0.0, 0.0, 1.0, 0.0)),
        newest - _needed((1.0, 0.0, 0.0, 0.0)),
        _replicas() - _replicas(1),
        _replicas(1) - _replicas(2),
    ]
    # Under a sensible policy gaps are a replica or two, and so are trends: no normaliser has to find that out.
    return (np.stack(gaps + trends, axis=1) / TYPICAL_REPLICAS).astype(np.float32)


def cloud_prior() -> RulePrior:
    """The rate rule, as far as four frames show it, as a prior."""
    assert len(OBSERVATION_NAMES) == FRAMES * FEATURES
    return rule_prior(_needed(AVERAGES[1]) - _replicas(), float(ACTION_ZERO), len(ACTION_NAMES), PRIOR_STRENGTH)
