"""PPO on a stream: rows wait until there are enough for a rollout, are learned from once, and are let go."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from headrace.learners import ppo
from headrace.learners.stream.training import Piece, Training
from headrace.learners.stream.trajectories import rollout_of
from headrace.schemas.transition import TransitionBatch, concat

PATIENCE_ROLLOUTS: Final = 8
"""After so many rollouts' rows, most of which can't be learned from, an update makes do with those that can.

Where these are fewer than a minibatch they are let go.
"""


class StreamedPPO(Training[ppo.PPOState]):
    """A PPO and the rows that wait for its next update."""

    @property
    def updates(self) -> int:
        """How many rollouts were learned from."""
        return self.state.version

    @property
    def held_rows(self) -> int:
        """The rows since the last update."""
        return self.counts.rows - self.counts.rows_at_update

    def take(self, pieces: Iterable[Piece]) -> None:
        """Take in a window's rows, and count those that don't say how likely their action was."""
        pieces = [*pieces]
        self.counts.without_log_prob += sum(int(np.isnan(batch.log_prob[first:]).sum()) for batch, first in pieces)
        super().take(pieces)

    def begin_anew(self) -> None:
        """Go on without those that waited."""
        super().begin_anew()
        self.counts.rows_at_update = self.counts.rows

    def let_go(self) -> bool:
        """Whether none of the rows since the last update can be learned from."""
        if self._waiting:
            return False
        self.counts.rows_at_update = self.counts.rows
        return True

    def _gone_back(self, arrays: Mapping[str, np.ndarray]) -> ppo.PPOState:
        return ppo.gone_back(self.state, arrays)

    def policy_arrays(self) -> dict[str, np.ndarray]:
        """Return what acts."""
        return ppo.policy_arrays(self.state)

    def state_to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state as arrays and metadata."""
        return ppo.state_to_arrays(self.state)

    def _forget(self) -> None:
        self._waiting: list[TransitionBatch] = []

    def _add(self, rows: TransitionBatch) -> None:
        usable = rows.take(~np.isnan(rows.log_prob))
        if len(usable):
            self._waiting.append(usable)

    def _update(self) -> None:
        counts, enough = self.counts, self.settings.rollout_rows
        if sum(map(len, self._waiting)) < enough and self.held_rows < PATIENCE_ROLLOUTS * enough:
            return
        waiting, self._waiting = self._waiting, []
        counts.rows_at_update = counts.rows
        rows = sum(map(len, waiting))
        if rows < self.state.config.minibatch_size:
            return  # advantages of so few rows, to deviation 1, would be noise
        rollout = rollout_of(concat(waiting), self.settings.rollout_steps, self.state.version, counts.version)
        metrics = self._try(lambda: ppo.update(self.state, rollout))
        if metrics:
            counts.sampled += round((1.0 - metrics["dropped_share"]) * rows * metrics.get("epochs", 0.0))
