"""What fitted values miss, by importance weights: per-decision weighted doubly robust evaluation.

Over episodes i and steps t, with the product of likelihood ratios up to t as weight, normalised over all episodes, the
estimate is V(s_0) + sum of gamma^t w_it (r + gamma V(s') - Q(s, a)). Source: Thomas, Brunskill (2016), "Data-efficient
off-policy policy evaluation for reinforcement learning". Products grow ever more unlike each other: at the step where
too few episodes would carry all of the weight the sum ends, and V stands for the rest, as in its section 6.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.transition import TransitionBatch

Doubles = NDArray[np.float64]

LEAST_EPISODES: Final = 40.0
"""Effective ones, (sum of weights)² / sum of their squares, that a step's weights must stand for."""
_GREATEST: Final = 50.0
"""Of a product's logarithm: no exponential overflows."""


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """Weights of rows. places: int64[K], the rows that count; step: of each, int64[K]; weight: float64[K].

    sums: float64[G, H], by group and step the sum of all episodes' weights; one that has ended keeps its last.
    """

    places: NDArray[np.int64]
    step: NDArray[np.int64]
    weight: Doubles
    sums: Doubles

    def missed(self, errors: Doubles, group: NDArray[np.int64], drawn: NDArray[np.int64], discount: float) -> float:
        """Sum the weighted errors of a draw of groups. errors: float64[K], r + gamma V(s') - Q; group: int64[K]."""
        horizon = self.sums.shape[1]
        tops = np.bincount(self.step, drawn[group] * self.weight * errors, horizon)
        return float(discount ** np.arange(horizon) @ (tops / np.maximum(drawn @ self.sums, 1e-12)))


def weighted(rows: TransitionBatch, ratio: Doubles, group: NDArray[np.int64], groups: int) -> Weighted | None:
    """Weigh the rows of episodes that are known from step 0 on, each row with its log_prob, as far as they are.

    rows: by agent, episode and step. ratio: float64[N], the logarithm of how much likelier the policy takes a row's
    action than who took it, NaN where it is not known. None where not even a first step has enough episodes.
    """
    step = rows.step
    follows = (
        (rows.agent[1:] == rows.agent[:-1]) & (rows.episode[1:] == rows.episode[:-1]) & (step[1:] == step[:-1] + 1)
    )
    first = np.append(True, ~follows)
    run = np.cumsum(first) - 1
    begin = np.flatnonzero(first)
    usable = (step[begin] == 0)[run] & ~np.isnan(ratio)
    # A run ends before its first row that can't be used.
    unusable = np.cumsum(~usable)
    usable &= unusable == (unusable - ~usable)[begin][run]
    total = np.cumsum(np.where(usable, np.clip(ratio, -_GREATEST, _GREATEST), 0.0))
    total -= (total - np.where(usable, np.clip(ratio, -_GREATEST, _GREATEST), 0.0))[begin][run]
    weight = np.exp(np.clip(total, -_GREATEST, _GREATEST))
    starts = begin[usable[begin]]
    if not len(starts):
        return None
    lengths = np.bincount(run[usable], minlength=len(begin))[run[starts]]
    sums: list[Doubles] = []
    for now in range(int(lengths.max())):
        at = weight[starts + np.minimum(now, lengths - 1)]
        if np.square(at.sum()) < LEAST_EPISODES * np.square(at).sum():
            break
        sums.append(np.bincount(group[starts], at, groups).astype(np.float64))
    if not sums:
        return None
    places = np.flatnonzero(usable & (step < len(sums)))
    return Weighted(places, step[places], weight[places], np.stack(sums, axis=1))
