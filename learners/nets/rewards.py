"""The running mean and size of rewards, which absurd ones hardly move. NumPy only."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.learners.nets.normaliser import typical_distance

Floats = NDArray[np.floating]

REWARD_LIMIT: Final = 100.0
"""Sizes from the mean beyond which a reward is cut off before it is learned from."""
_RESOLUTION = 1e-6
"""Rewards that differ by less, of their size, are alike but for float32's rounding: sums over steps never are quite."""
_MEAN_LIMIT, _SIZE_LIMIT, _ROUNDS = 10.0, 5.0, 8
"""Sizes beyond which a reward is cut off in the mean and in the size; and how often the first batch is gone through."""


class RewardScale(NamedTuple):
    """What the rewards seen so far are like.

    size: how far from the mean they are where they differ from it, 0 before any was seen that is not 0. It is the mean
    of squared distances over the mean of distances: of rewards that are 0 but for some, those some's.
    """

    mean: float = 0.0
    size: float = 0.0

    @property
    def unit(self) -> float:
        """What rewards may be divided by."""
        return self.size or 1.0

    def cut(self, rewards: Floats, limit: float = REWARD_LIMIT) -> Floats:
        """The rewards, those beyond so many sizes from the mean cut off; as they are before a size is known."""
        if not self.size:
            return rewards
        inside: Floats = np.clip(rewards, self.mean - limit * self.size, self.mean + limit * self.size)
        return inside

    def moved(self, rewards: Floats, rate: float) -> "RewardScale":
        """The scale moved on by a batch, float[B], of rewards a step. rate: the batch's share."""
        if self.size:
            return self._moved(rewards, rate)
        middle = float(np.median(rewards))
        distance = float(typical_distance(rewards[:, None] - middle)[0])
        scale = RewardScale(middle, distance if distance > _RESOLUTION * abs(middle) else abs(middle))
        for _ in range(_ROUNDS if scale.size else 0):
            scale = scale._moved(rewards, 1.0)
        return scale

    def _moved(self, rewards: Floats, rate: float) -> "RewardScale":
        mean = self.mean + rate * (float(self.cut(rewards, _MEAN_LIMIT).mean(dtype=np.float64)) - self.mean)
        sizes = np.minimum(np.abs(rewards - mean), _SIZE_LIMIT * self.size).astype(np.float64)
        total = float(sizes.sum())
        if total <= _RESOLUTION * len(sizes) * self.size:
            return RewardScale(mean, self.size)
        return RewardScale(mean, self.size + rate * (float(sizes.dot(sizes)) / total - self.size))
