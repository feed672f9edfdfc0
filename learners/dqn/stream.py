"""DQN on a stream: rows go into replay, and updates draw from it.

Rewards span several steps within a chunk's new rows, so that these alone say what goes into replay. Priorities are in
the checkpoint; the rows that they are of are read again.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from headrace.learners import dqn
from headrace.learners.dqn.memory import Memory
from headrace.learners.dqn.replay import Batch
from headrace.learners.stream.training import Piece, Training
from headrace.learners.stream.trajectories import spanning
from headrace.schemas.transition import TransitionBatch

_PRIORITIES, _GREATEST = "replay/priorities", "replay/greatest_priority"


class StreamedDQN(Training[dqn.DQNState]):
    """A DQN and its replay."""

    @property
    def updates(self) -> int:
        """How many updates were made."""
        return self.state.updates

    @property
    def held_rows(self) -> int:
        """The rows that replay may hold."""
        return self.memory.buffer.capacity

    def refill(self, pieces: Iterable[Piece], before: int) -> None:
        """Begin where replay's oldest row lay, as what is drawn depends on the place; rows keep their priorities."""
        self.memory.buffer.added = before
        super().refill(pieces, before)
        if self.memory.prioritised is not None and self._saved is not None:
            self.memory.prioritised.restore(self._saved[_PRIORITIES], float(self._saved[_GREATEST][0]))
        self._saved = None

    def _gone_back(self, arrays: Mapping[str, np.ndarray]) -> dqn.DQNState:
        return dqn.gone_back(self.state, arrays)

    def policy_arrays(self) -> dict[str, np.ndarray]:
        """Return what acts."""
        return dqn.policy_arrays(self.state)

    def state_to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state as arrays and metadata."""
        arrays, meta = dqn.state_to_arrays(self.state)
        if self.memory.prioritised is not None:
            weights, greatest = self.memory.prioritised.priorities()
            arrays |= {_PRIORITIES: weights, _GREATEST: np.array([greatest])}
        return arrays, meta

    def exploration(self) -> float:
        """Return the epsilon that the schedule has for the agents now."""
        return dqn.exploration_at(self.state.config, self.counts.rows)

    def _forget(self) -> None:
        self.memory = Memory(self.state.config, len(self.state.inputs.mean))

    def _add(self, rows: TransitionBatch) -> None:
        config = self.state.config
        if config.n_step > 1:
            self.memory.add(spanning(rows, config.n_step, config.discount))
        else:
            self.memory.add(Batch(rows.obs, rows.action.astype(np.int64), rows.reward, rows.next_obs, rows.terminated))

    def _update(self) -> None:
        counts, settings = self.counts, self.settings
        fresh = counts.rows - counts.rows_at_update
        if counts.rows < settings.learning_starts or fresh < settings.min_rows or not len(self.memory.buffer):
            return
        counts.rows_at_update = counts.rows
        batch_size = self.state.config.batch_size
        wanted = (counts.rows - settings.learning_starts) * settings.samples_per_row
        while counts.sampled + batch_size <= wanted:
            counts.sampled += batch_size
            self._try(lambda: self.memory.update(self.state))
