"""Prioritised replay: rows are drawn in proportion to their priority. NumPy only, every step a vector.

Source: Schaul et al. (2016), "Prioritized Experience Replay", the proportional variant.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.learners.dqn.replay import Batch, ReplayBuffer

_SEARCHED_LEVEL = 10
"""Levels above this one are searched at once, by their running sum: cheaper than a step a level."""


class Sample(NamedTuple):
    """Drawn rows."""

    batch: Batch
    places: NDArray[np.int64]  # where in the ring they lie; for `reprioritise`
    weight: NDArray[np.float32]  # importance weights, the greatest of them 1


class SumTree:
    """Non-negative weights of C places, drawn from in O(log C), in one flat array.

    Node i has the children 2i and 2i + 1, and holds their sum; the leaves begin at `size`.
    """

    def __init__(self, capacity: int) -> None:
        self.size = 1 << max(1, (capacity - 1).bit_length())
        self.nodes = np.zeros(2 * self.size)
        self._depth = self.size.bit_length() - 1

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self.nodes[1])

    def set(self, places: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        """Write weights; of a place that comes twice, the last one."""
        node = places + self.size
        self.nodes[node] = weights
        for _ in range(self._depth):
            node >>= 1
            left = node << 1
            self.nodes[node] = self.nodes[left] + self.nodes[left + 1]

    def find(self, targets: NDArray[np.float64]) -> NDArray[np.int64]:
        """The places that hold the running sums float64[B] in [0, total): int64[B]."""
        level = min(_SEARCHED_LEVEL, self._depth)
        first = 1 << level
        sums = self.nodes[first : 2 * first].cumsum()
        node = np.minimum(sums.searchsorted(targets, side="right"), first - 1)
        remaining = targets - (sums[node] - self.nodes[first + node])
        node += first
        for _ in range(self._depth - level):
            node <<= 1
            left = self.nodes.take(node)
            right = remaining >= left
            remaining -= left * right
            node += right
        node -= self.size
        return node


class PrioritisedReplay:
    """A ring of transitions, each with a priority; new ones have the greatest so far.

    Rows are drawn in proportion to (priority + floor) ** exponent (alpha): none is never drawn again.
    """

    def __init__(self, capacity: int, observation_width: int, exponent: float = 0.6, floor: float = 1e-3) -> None:
        self.buffer = ReplayBuffer(capacity, observation_width)
        self._tree = SumTree(capacity)
        self._exponent = exponent
        self._floor = floor
        self._greatest = 1.0

    def __len__(self) -> int:
        return len(self.buffer)

    def add(self, batch: Batch) -> None:
        """Append rows, as `ReplayBuffer.add`."""
        start, rows = self.buffer.added, len(batch.action)
        self.buffer.add(batch)
        kept = min(rows, self.buffer.capacity)
        places = np.arange(start + rows - kept, start + rows) % self.buffer.capacity
        self._tree.set(places, np.full(kept, self._greatest**self._exponent))

    def sample(self, rng: np.random.Generator, rows: int, correction: float) -> Sample:
        """Draw one row from each of `rows` equal shares of the total priority.

        correction: beta; 1 takes the whole bias out of the mean. Raises ValueError if the buffer is empty.
        """
        self.buffer.require_rows()
        total = self._tree.total
        targets = (np.arange(rows) + rng.random(rows)) * (total / rows)
        # Rounding may carry a target beyond the last row that has a priority.
        places = np.minimum(self._tree.find(targets), len(self.buffer) - 1)
        chances = np.maximum(self._tree.nodes.take(places + self._tree.size), 1e-300)
        # (N * p) ** -beta over its maximum: N and the total cancel.
        weight = (chances.min() / chances) ** correction
        return Sample(self.buffer.take(places), places, weight.astype(np.float32))

    def priorities(self) -> tuple[NDArray[np.float64], float]:
        """What the rows are drawn by, float64[R] by place, and the greatest priority so far: for a checkpoint."""
        return self._tree.nodes[self._tree.size :][: len(self)].copy(), self._greatest

    def restore(self, weights: NDArray[np.float64], greatest: float) -> None:
        """The inverse of `priorities`, once the rows are there again."""
        self._tree.set(np.arange(len(weights)), weights)
        self._greatest = greatest

    def reprioritise(self, places: NDArray[np.int64], errors: NDArray[np.floating]) -> None:
        """Give rows new priorities: their absolute errors, float[B]."""
        priorities = errors.astype(np.float64) + self._floor
        self._greatest = max(self._greatest, float(priorities.max()))
        self._tree.set(places, priorities**self._exponent)
