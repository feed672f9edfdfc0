"""A rule list as what a policy computes: in place of a network's layers it has rules. NumPy only.

Its arrays: `rules.sums` float32[D, F], F sums of one observation or two that conditions are about; `rules.low` and
`rules.high` float32[R, F], bounds that these must lie between, low < sum <= high, infinite where there is no condition;
the first rule that holds counts, and the last holds always. What it gives then: `rules.logits` float32[R, A], of which
the rule's action is the greatest by so much that draws are certain; or, of continuous actions, `rules.mean`.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SUMS, LOW, HIGH, LOGITS, MEAN = "rules.sums", "rules.low", "rules.high", "rules.logits", "rules.mean"
CERTAIN: Final = 30.0
"""By how much a rule's action leads: another is drawn once in 10^13 times."""

Floats = NDArray[np.floating]


class RuleNetwork:
    """The rules, in batches and for one observation; as `headrace.learners.acting.Network`, by the same names."""

    def __init__(self, sums: Floats, low: Floats, high: Floats, given: Floats) -> None:
        """sums: float32[D, F]. low, high: float32[R, F]. given: float32[R, A]."""
        self.inputs, self.outputs = len(sums), given.shape[1]
        # Term by term, not by a product of matrices, whose rounding depends on how many rows there are.
        self._places = np.argsort(-np.abs(sums), axis=0, kind="stable")[:2]
        self._weights = np.take_along_axis(sums, self._places, axis=0)
        self._shares = (sums != 0.0).T / np.maximum((sums != 0.0).sum(axis=0), 1)[:, None]
        self._low, self._high = low[:-1], high[:-1]
        self._given = given

    def _seen(self, obs: Floats) -> Floats:
        """float32[..., D] -> float32[..., F]."""
        terms = obs.astype(np.float32, copy=False)[..., self._places] * self._weights
        seen: Floats = terms.sum(axis=-2)
        return seen

    def deciding(self, obs: Floats) -> NDArray[np.intp]:
        """float32[B, D] -> int64[B], which rule decides."""
        assert obs.ndim == 2, obs.shape
        assert obs.shape[1] == self.inputs, (obs.shape, self.inputs)
        seen = self._seen(obs)
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
        seen = self._seen(line)[:, None]
        holds = (seen > self._low) & (seen <= self._high)
        turned = (holds[1:] != holds[:-1]).any(axis=1)
        shares = turned / np.maximum(turned.sum(axis=1, keepdims=True), 1)
        found: NDArray[np.float64] = shares @ self._shares
        return found

    def outputs_of_one(self, obs: Floats) -> Floats:
        """float32[D] -> float32[A], not to be written into."""
        seen = self._seen(obs)
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
    nothing = np.zeros(0)
    sums, low, high = arrays.get(SUMS, nothing), arrays[LOW], arrays.get(HIGH, nothing)
    given = arrays.get(LOGITS, arrays.get(MEAN, nothing))
    shapes = [one.shape for one in (sums, low, high, given)]
    if {len(one) for one in shapes} != {2} or not len(low) or high.shape != low.shape or len(given) != len(low):
        raise ValueError(f"rules of sums, bounds and actions {shapes} do not fit each other")
    if sums.shape[1] != low.shape[1] or len(sums) < 1 or ((sums != 0.0).sum(axis=0) > 2).any():
        raise ValueError(f"rules of sums, bounds and actions {shapes} do not fit each other")
    if np.isnan(low).any() or np.isnan(high).any() or not (np.isfinite(given).all() and np.isfinite(sums).all()):
        raise ValueError("the rules' numbers are not all numbers; they must not act")
    return RuleNetwork(*(one.astype(np.float32) for one in (sums, low, high, given)))
