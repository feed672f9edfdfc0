"""Experience replay: a ring of columns. NumPy only; what is drawn depends on the caller's generator."""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Columns of B transitions.

    Attributes:
        obs: float32[B, D].
        action: int64[B].
        reward: float32[B].
        next_obs: float32[B, D].
        terminated: bool[B]; false where an episode was merely cut off (its value goes on).
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray


class ReplayBuffer:
    """The last `capacity` transitions, overwritten oldest first, drawn uniformly with replacement.

    The same sequence of `add` gives the same contents however it is split into batches, so a buffer
    can be rebuilt from the ordered references of what went in.

    Attributes:
        capacity: C, rows kept.
        added: rows ever added.
    """

    def __init__(self, capacity: int, observation_width: int) -> None:
        if capacity < 1 or observation_width < 1:
            raise ValueError(f"capacity and observation_width must be positive: {capacity}, {observation_width}")
        self.capacity = capacity
        self.added = 0
        self._columns = Batch(
            obs=np.zeros((capacity, observation_width), np.float32),
            action=np.zeros(capacity, np.int64),
            reward=np.zeros(capacity, np.float32),
            next_obs=np.zeros((capacity, observation_width), np.float32),
            terminated=np.zeros(capacity, np.bool_),
        )

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, batch: Batch) -> None:
        """Append the rows of `batch` in order; of more than C rows the last C stay.

        Raises:
            ValueError: a column's shape doesn't fit the others or the buffer.
        """
        rows = len(batch.action)
        self._require_shapes(batch, rows)
        skipped = max(0, rows - self.capacity)
        start = (self.added + skipped) % self.capacity
        first = min(rows - skipped, self.capacity - start)
        for column, values in zip(self._columns, batch, strict=True):
            column[start : start + first] = values[skipped : skipped + first]
            column[: rows - skipped - first] = values[skipped + first :]
        self.added += rows

    def sample(self, rng: np.random.Generator, rows: int) -> Batch:
        """Draw `rows` transitions uniformly with replacement, as fresh contiguous columns.

        Raises:
            ValueError: the buffer is empty.
        """
        if not self.added:
            raise ValueError("cannot sample from an empty replay buffer; add transitions first")
        index = rng.integers(len(self), size=rows)
        return Batch(*(column.take(index, axis=0) for column in self._columns))

    def _require_shapes(self, batch: Batch, rows: int) -> None:
        for name, column, values in zip(Batch._fields, self._columns, batch, strict=True):
            expected = (rows, *column.shape[1:])
            if values.shape != expected:
                raise ValueError(f"replay column {name}: expected shape {expected}, got {values.shape}")
