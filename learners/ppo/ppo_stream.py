"""PPO on a stream: rows wait until there are enough for a rollout, are learned from once, and are let go."""

import dataclasses
import logging
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from headrace.learners.ppo import ppo
from headrace.learners.stream.training import Config, Counts, Learned, LearnSettings
from headrace.learners.stream.trajectories import rollout_of
from headrace.schemas.errors import LearnerDivergedError
from headrace.schemas.transition import TransitionBatch, concat

logger = logging.getLogger(__name__)

PATIENCE_ROLLOUTS: Final = 8
"""After so many rollouts' rows, most of which can't be learned from, an update makes do with those that can.

Where these are fewer than a minibatch they are let go.
"""


class StreamedPPO:
    """A PPO, the rows that wait for its next update, and its counts: a `Training`."""

    def __init__(
        self,
        state: ppo.PPOState,
        settings: LearnSettings,
        counts: Counts | None = None,
        *,
        task: str = "",
        learned: Learned = lambda _: None,
    ) -> None:
        self.state = state
        self.settings = settings
        self.counts = counts or Counts()
        self._waiting: list[TransitionBatch] = []
        self._task = task
        self._learned = learned

    @property
    def config(self) -> Config:
        """The hyper-parameters."""
        return self.state.config

    @config.setter
    def config(self, config: Config) -> None:
        assert isinstance(config, ppo.PPOConfig)
        self.state = dataclasses.replace(self.state, config=config)

    @property
    def updates(self) -> int:
        """How many rollouts were learned from."""
        return self.state.version

    @property
    def held_rows(self) -> int:
        """The rows since the last update."""
        return self.counts.rows - self.counts.rows_at_update

    def take(self, pieces: Iterable[tuple[TransitionBatch, int]]) -> None:
        """Take in a window's rows, each batch's from the given one on, and make the update that falls due."""
        counts = self.counts
        for batch, first_row in pieces:
            self.refill(batch, first_row)
            counts.rows += len(batch) - first_row
            counts.without_log_prob += int(np.isnan(batch.log_prob[first_row:]).sum())
        self._update()

    def refill(self, batch: TransitionBatch, first_row: int) -> None:
        """Let rows wait that were counted before; those that don't say how likely their action was can't be used."""
        rows = batch.slice(first_row, len(batch))
        usable = rows.take(~np.isnan(rows.log_prob))
        if len(usable):
            self._waiting.append(usable)

    def begin_refill(self, first_row: int) -> None:
        """Nothing depends on what came before."""

    def end_refill(self) -> None:
        """Rows wait as they came."""

    def begin_anew(self) -> None:
        """Go on without those that waited."""
        self._waiting = []
        self.counts.rows_at_update = self.counts.rows

    def let_go(self) -> bool:
        """Whether none of the rows since the last update can be learned from."""
        if self._waiting:
            return False
        self.counts.rows_at_update = self.counts.rows
        return True

    def policy_arrays(self) -> dict[str, np.ndarray]:
        """Return what acts."""
        return ppo.policy_arrays(self.state)

    def state_to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state as arrays and metadata."""
        return ppo.state_to_arrays(self.state)

    def exploration(self) -> float:
        """Return 0: agents draw from the policy itself."""
        return 0.0

    def _update(self) -> None:
        counts, enough = self.counts, self.settings.rollout_rows
        if sum(map(len, self._waiting)) < enough and self.held_rows < PATIENCE_ROLLOUTS * enough:
            return
        waiting, self._waiting = self._waiting, []
        counts.rows_at_update = counts.rows
        if sum(map(len, waiting)) < self.state.config.minibatch_size:
            return  # advantages of so few rows, to deviation 1, would be noise
        rollout = rollout_of(concat(waiting), self.settings.rollout_steps, self.state.version, counts.version)
        try:
            self.state, metrics = ppo.update(self.state, rollout)
        except LearnerDivergedError as error:
            # The state is as it was. One agent's absurd rewards must not stop the learning from later rows.
            counts.skipped_updates += 1
            logger.warning("%s: an update was skipped: %s", self._task, error)
            return
        kept = (1.0 - metrics["dropped_share"]) * sum(map(len, waiting))
        counts.sampled += round(kept * metrics.get("epochs", 0.0))
        self._learned(metrics)
