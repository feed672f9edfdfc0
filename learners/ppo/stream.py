"""PPO on a stream: rows wait until there are enough for a rollout, are learned from once, and are let go."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from headrace.learners import ppo
from headrace.learners.stream.training import Piece, Training
from headrace.learners.stream.trajectories import rollout_of
from headrace.schemas.transition import TransitionBatch, concat

logger = logging.getLogger(__name__)

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
        self._tell_of_repeated(rows, rollout)
        begun = self.state.version
        for part in parts_of(rollout, max(1, rows // enough)):
            # The parts are of one age: that the learner is a version on with each makes none of them too old.
            self._learn_from(part, self.state.version - begun)

    def _learn_from(self, rollout: ppo.Rollout, younger: int) -> None:
        assert rollout.version is not None
        rollout = rollout._replace(version=rollout.version + younger)
        metrics = self._try(lambda: ppo.update(self.state, rollout))
        if metrics:
            share = (1.0 - metrics["dropped_share"]) * metrics.get("epochs", 0.0)
            self.counts.sampled += round(share * rows_in(rollout))

    def _tell_of_repeated(self, rows: int, rollout: ppo.Rollout) -> None:
        repeated = rows - rows_in(rollout)
        if repeated:
            logger.warning("%s: %d of a rollout's %d rows are repeated ones and left out", self._task, repeated, rows)


def rows_in(rollout: ppo.Rollout) -> int:
    """How many rows there are, padding apart."""
    return rollout.reward.size if rollout.present is None else int(rollout.present.sum())


def parts_of(rollout: ppo.Rollout, count: int) -> list[ppo.Rollout]:
    """Split a rollout [T, N] into as many of whole columns, each of all agents: column i goes into part i % count.

    What a window holds may be many rollouts' rows: learned from at once they would be a single step on.
    """
    count = min(count, rollout.reward.shape[1])
    return [
        ppo.Rollout(*(None if column is None else column[:, i::count] for column in rollout))  # type: ignore[arg-type] # as they were
        for i in range(count)
    ]
