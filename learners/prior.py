"""A rule as a prior: what a policy prefers before it has learned anything. NumPy only.

The rule names the action ceil(w . obs + b), cut to those that there are; the policy's logits (or
values) start from -strength * |action - rule's action|. All of it is in the policy's arrays, so a
policy carries its rule with it.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
WEIGHT, BIAS, STRENGTH = "prior.weight", "prior.bias", "prior.strength"


class RulePrior(NamedTuple):
    """A linear rule over ordered discrete actions."""

    weight: Floats  # [D]
    bias: float
    table: Floats  # [A, A], row i: what each action starts from where the rule says i

    def logits(self, obs: Floats) -> Floats:
        """float32[B, D] -> float32[B, A]."""
        wanted = np.ceil(obs @ self.weight + np.float32(self.bias))
        table: Floats = self.table[np.clip(wanted, 0, len(self.table) - 1).astype(np.intp)]
        return table

    def logits_of_one(self, obs: Floats) -> Floats:
        """float32[D] -> float32[A], not to be written into."""
        wanted = math.ceil(float(self.weight.dot(obs)) + self.bias)
        row: Floats = self.table[min(max(wanted, 0), len(self.table) - 1)]
        return row


def rule_prior(weight: Floats, bias: float, actions: int, strength: float) -> RulePrior:
    """The prior of ceil(weight . obs + bias), at -`strength` for each action away from it."""
    distance = np.abs(np.subtract.outer(np.arange(actions), np.arange(actions)))
    return RulePrior(np.asarray(weight, np.float32), float(bias), (-strength * distance).astype(np.float32))


def prior_to_arrays(prior: RulePrior | None) -> dict[str, Floats]:
    """As arrays of a policy; none where there is no prior."""
    if prior is None:
        return {}
    strength = prior.table[0, 0] - prior.table[0, 1]
    numbers = {BIAS: prior.bias, STRENGTH: strength}
    return {WEIGHT: prior.weight} | {name: np.array([value], np.float32) for name, value in numbers.items()}


def prior_from_arrays(arrays: Mapping[str, Floats], width: int, actions: int) -> RulePrior | None:
    """The inverse of `prior_to_arrays`; raises ValueError where the rule is of another width, or not finite."""
    if WEIGHT not in arrays:
        return None
    weight, numbers = arrays[WEIGHT], [arrays.get(name, np.zeros(0)) for name in (BIAS, STRENGTH)]
    if weight.shape != (width,) or any(number.shape != (1,) for number in numbers) or actions < 2:
        raise ValueError(f"the prior's rule {weight.shape} does not fit {width} inputs and {actions} actions")
    if not (np.isfinite(weight).all() and np.isfinite(numbers).all()):
        raise ValueError("the prior's numbers are not all finite; it must not act")
    return rule_prior(weight, float(numbers[0][0]), actions, float(numbers[1][0]))
