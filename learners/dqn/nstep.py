"""Rewards that span several steps, made where trajectories are at hand. NumPy only."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from headrace.learners.dqn.replay import Batch


class NStepWindow:
    """The last n steps of N trajectories in lockstep; gives transitions whose rewards span up to n steps.

    A transition that an episode's end makes shorter says how many steps it spans, so that its
    bootstrap is discounted by no more than that.

    Source: Sutton (1988), "Learning to predict by the methods of temporal differences".
    """

    def __init__(self, n: int, discount: float) -> None:
        self._n = n
        self._discount = discount
        self._steps: list[tuple[Batch, NDArray[np.bool_]]] = []

    def push(self, batch: Batch, done: NDArray[np.bool_]) -> Iterator[Batch]:
        """Take in one step of each trajectory, row i being trajectory i; done: bool[N], whether its episode ended.

        Yields what is complete: rows that span n steps, and where an episode ended all that were waiting.
        """
        if self._n == 1:
            yield batch
            return
        self._steps.append((batch, done))
        waiting = len(self._steps)
        for age in range(waiting):
            # A start that many steps ago is complete now if it spans n, or its trajectory ends here.
            start = waiting - 1 - age
            rows = self._open(start) & (done if age < self._n - 1 else np.ones_like(done))
            if rows.any():
                yield self._spanning(start, np.flatnonzero(rows))
        if waiting == self._n:
            del self._steps[0]

    def _open(self, start: int) -> NDArray[np.bool_]:
        """Rows whose episode didn't end between `start` and the step before the newest."""
        ended = [done for _, done in self._steps[start:-1]]
        return ~np.logical_or.reduce(ended) if ended else np.ones(len(self._steps[-1][1]), np.bool_)

    def _spanning(self, start: int, rows: NDArray[np.intp]) -> Batch:
        first, last = self._steps[start][0], self._steps[-1][0]
        span = self._steps[start:]
        reward = sum((self._discount**i * step.reward[rows] for i, (step, _) in enumerate(span)), np.zeros(len(rows)))
        return Batch(
            obs=first.obs[rows],
            action=first.action[rows],
            reward=reward.astype(np.float32),
            next_obs=last.next_obs[rows],
            terminated=last.terminated[rows],
            steps=np.full(len(rows), len(span)),
        )
