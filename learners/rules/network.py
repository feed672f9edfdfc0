"""A rule list as what a policy computes: in place of a network's layers it has rules. NumPy only.

Its arrays: `rules.low` and `rules.high` float32[R, D], bounds that an observation must lie between, low < obs <= high,
infinite where there is no condition; the first rule that holds counts, and the last holds always. What it gives then:
`rules.logits` float32[R, A], of which the rule's action is the greatest by so much that draws are certain; or, of
continuous actions, `rules.mean` float32[R, A].
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LOW, HIGH, LOGITS, MEAN = "rules.low", "rules.high", "rules.logits", "rules.mean"
CERTAIN: Final = 30.0
"""By how much a rule's action leads: another is drawn once in 10^13 times."""

Floats = NDArray[np.floating]


class RuleNetwork:
    """The rules, in batches and for one observation; as `headrace.learners.acting.Network`, by the same names."""

    def __init__(self, low: Floats, high: Floats, given: Floats) -> None:
        """low, high: float32[R, D]. given: float32[R, A]."""
        self.inputs, self.outputs = low.shape[1], given.shape[1]
        self._seen = np.flatnonzero(np.isfinite(low).any(axis=0) | np.isfinite(high).any(axis=0))
        self._low, self._high = low[:-1, self._seen], high[:-1, self._seen]
        self._given = given

    def deciding(self, obs: Floats) -> NDArray[np.intp]:
        """float32[B, D] -> int64[B], which rule decides."""
        assert obs.ndim == 2, obs.shape
        assert obs.shape[1] == self.inputs, (obs.shape, self.inputs)
        seen = obs.astype(np.float32, copy=False)[:, self._seen]
        rule = np.full(len(obs), len(self._given) - 1)
        for place in reversed(range(len(self._low))):
            rule[((seen > self._low[place]) & (seen <= self._high[place])).all(axis=1)] = place
        return rule

    def outputs_of(self, obs: Floats) -> Floats:
        """float32[B, D] -> float32[B, A]."""
        found: Floats = self._given[self.deciding(obs)]
        return found

    def turning(self, line: Floats) -> NDArray[np.float64]:
        """Of steps between points float[N + 1, D], each feature's share of the conditions that turn: float64[N, D]."""
        seen = line.astype(np.float32)[:, None, self._seen]
        holds = (seen > self._low) & (seen <= self._high)
        turned = (holds[1:] != holds[:-1]).any(axis=1)
        shares = np.zeros((len(turned), self.inputs))
        shares[:, self._seen] = turned / np.maximum(turned.sum(axis=1, keepdims=True), 1)
        return shares

    def outputs_of_one(self, obs: Floats) -> Floats:
        """float32[D] -> float32[A], not to be written into."""
        seen = obs[self._seen]
        holds = ((seen > self._low) & (seen <= self._high)).all(axis=1)
        place = int(holds.argmax()) if holds.any() else -1
        found: Floats = self._given[place]
        return found


def rules_of(arrays: Mapping[str, NDArray[Any]]) -> RuleNetwork | None:
    """Return the rules that a policy's arrays hold, None where they hold a network.

    Raises ValueError for arrays that don't fit each other.
    """
    if LOW not in arrays:
        return None
    low, high = arrays[LOW], arrays.get(HIGH, np.zeros(0))
    given = arrays.get(LOGITS, arrays.get(MEAN, np.zeros(0)))
    if low.ndim != 2 or not len(low) or high.shape != low.shape or given.shape[:1] != low.shape[:1] or given.ndim != 2:
        raise ValueError(f"rules of bounds {low.shape} and {high.shape} do not fit what they give, {given.shape}")
    if np.isnan(low).any() or np.isnan(high).any() or not np.isfinite(given).all():
        raise ValueError("the rules' numbers are not all numbers; they must not act")
    return RuleNetwork(*(one.astype(np.float32) for one in (low, high, given)))
