"""Whether a policy goes by what an explanation cites: cited features are taken away, and its actions must change.

Source: Petsiuk, Das, Saenko (2018), "RISE: Randomized Input Sampling for Explanation of Black-box Models".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.explain.scorecard_reader import agreement

Act = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Gives the actions float64[M, T] of observations float32[M, D], as `targets` have them."""
Group = tuple[int, ...]
"""The columns of one named observation: of stacked frames several."""
RANDOM_ORDERS: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class Deletion:
    """A policy whose features can be taken away.

    obs: float32[M, D], where it is asked. baseline: float64[D], what a feature that is taken away becomes. discrete:
    whether its actions are named ones.
    """

    act: Act
    obs: NDArray[np.float32]
    baseline: NDArray[np.float64]
    discrete: bool

    def auc(self, order: Sequence[Group]) -> float:
        """Return the area below the curve of actions that stay, over the share of features taken away, from 0 to 1.

        order: one feature or more, the first is taken away first. The lower, the more the policy goes by them.
        """
        assert order
        wanted, changed, stays = self.act(self.obs), self.obs.copy(), [1.0]
        for group in order:
            changed[:, list(group)] = self.baseline[list(group)]
            stays.append(agreement(self.act(changed), wanted, discrete=self.discrete))
        return float(np.trapezoid(stays, dx=1.0 / len(order)))

    def random_auc(self, groups: Sequence[Group], count: int, seed: Sequence[int]) -> float:
        """Return the mean area over random orders of so many of the features."""
        rng = np.random.default_rng(seed)
        orders = [rng.permutation(len(groups))[:count] for _ in range(RANDOM_ORDERS)]
        return float(np.mean([self.auc([groups[place] for place in one]) for one in orders]))
