"""Experience replay: a ring of columns. NumPy only; what is drawn depends on the caller's generator."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Batch(NamedTuple):
    """Columns of B transitions."""

    obs: NDArray[np.float32]  # [B, D]
    action: NDArray[np.int64]
    reward: NDArray[np.float32]
    next_obs: NDArray[np.float32]  # [B, D]
    terminated: NDArray[np.bool_]  # false where an episode was merely cut off (its value goes on)
    steps: NDArray[np.int64] | None = None  # that the reward spans, discounted; None where all span one


class ReplayBuffer:
    """The last `capacity` transitions, overwritten oldest first, drawn uniformly with replacement.

    The same sequence of `add` gives the same contents however it is split into batches, so a buffer
    can be rebuilt from the ordered references of what went in. `added`: rows ever.
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
        """Append rows in order; of more than `capacity` the last stay. Raises ValueError where shapes don't fit."""
        rows = len(batch.action)
        if batch.steps is not None and self._columns.steps is None:
            self._columns = self._columns._replace(steps=np.ones(self.capacity, np.int64))
        if batch.steps is None and self._columns.steps is not None:
            batch = batch._replace(steps=np.ones(rows, np.int64))
        self._require_shapes(batch, rows)
        skipped = max(0, rows - self.capacity)
        start = (self.added + skipped) % self.capacity
        first = min(rows - skipped, self.capacity - start)
        for column, values in zip(self._columns, batch, strict=True):
            if column is not None and values is not None:
                _write(column, values[skipped:], start, first)
        self.added += rows

    def sample(self, rng: np.random.Generator, rows: int) -> Batch:
        """Draw transitions uniformly with replacement; raises ValueError if the buffer is empty."""
        self.require_rows()
        return self.take(rng.integers(len(self), size=rows))

    def take(self, places: NDArray[np.intp]) -> Batch:
        """The rows in these places, as fresh contiguous columns; places: int64[B], below `len`."""
        obs, action, reward, next_obs, terminated, steps = self._columns
        return Batch(
            obs.take(places, axis=0),
            action.take(places),
            reward.take(places),
            next_obs.take(places, axis=0),
            terminated.take(places),
            None if steps is None else steps.take(places),
        )

    def require_rows(self) -> None:
        """Raise ValueError if there is nothing to draw."""
        if not self.added:
            raise ValueError("cannot sample from an empty replay buffer; add transitions first")

    def _require_shapes(self, batch: Batch, rows: int) -> None:
        for name, column, values in zip(Batch._fields, self._columns, batch, strict=True):
            if column is None or values is None:
                continue
            expected = (rows, *column.shape[1:])
            if values.shape != expected:
                raise ValueError(f"replay column {name}: expected shape {expected}, got {values.shape}")


def _write(column: NDArray[Any], values: NDArray[Any], start: int, first: int) -> None:
    """Put `first` values at `start`, and the rest at the ring's beginning."""
    column[start : start + first] = values[:first]
    if first < len(values):
        column[: len(values) - first] = values[first:]
