"""DQN on a stream: rows go into replay, and updates draw from it.

Rewards span several steps within a chunk's new rows, so that these alone say what goes into replay. Priorities are in
the checkpoint; the rows that they are of are read again.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from headrace.learners.dqn import dqn
from headrace.learners.dqn.prioritised import PrioritisedReplay
from headrace.learners.dqn.replay import Batch, ReplayBuffer
from headrace.learners.stream.training import Config, Counts, Learned, LearnSettings
from headrace.learners.stream.trajectories import spanning
from headrace.schemas.errors import LearnerDivergedError
from headrace.schemas.transition import TransitionBatch

logger = logging.getLogger(__name__)

_PRIORITIES, _GREATEST = "replay/priorities", "replay/greatest_priority"


class StreamedDQN:
    """A DQN, its replay buffer and its counts: a `Training`."""

    def __init__(
        self,
        state: dqn.DQNState,
        settings: LearnSettings,
        counts: Counts | None = None,
        *,
        task: str = "",
        learned: Learned = lambda _: None,
        saved: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """saved: the arrays of the checkpoint that it goes on from."""
        self.state = state
        self.settings = settings
        self.counts = counts or Counts()
        self._prioritised: PrioritisedReplay | None = None
        self._saved = saved
        self._empty()
        self._task = task
        self._learned = learned

    @property
    def config(self) -> Config:
        """The hyper-parameters."""
        return self.state.config

    @config.setter
    def config(self, config: Config) -> None:
        assert isinstance(config, dqn.DQNConfig)
        self.state = dataclasses.replace(self.state, config=config)

    @property
    def updates(self) -> int:
        """How many updates were made."""
        return self.state.updates

    @property
    def held_rows(self) -> int:
        """The rows that replay may hold."""
        return self.replay.capacity

    def take(self, pieces: Iterable[tuple[TransitionBatch, int]]) -> None:
        """Take in a window's rows, each batch's from the given one on, and make the updates that fall due."""
        for batch, first_row in pieces:
            self.refill(batch, first_row)
            self.counts.rows += len(batch) - first_row
        self._update()

    def refill(self, batch: TransitionBatch, first_row: int) -> None:
        """Put rows into replay that were counted before."""
        rows, config = batch.slice(first_row, len(batch)), self.state.config
        if config.n_step > 1:
            added = spanning(rows, config.n_step, config.discount)
        else:
            added = Batch(rows.obs, rows.action.astype(np.int64), rows.reward, rows.next_obs, rows.terminated)
        memory = self.replay if self._prioritised is None else self._prioritised
        memory.add(added)

    def begin_refill(self, first_row: int) -> None:
        """Begin where replay's oldest row lay: what is drawn depends on the place."""
        self.replay.added = first_row

    def end_refill(self) -> None:
        """Give the rows the priorities that they had."""
        if self._prioritised is not None and self._saved is not None:
            self._prioritised.restore(self._saved[_PRIORITIES], float(self._saved[_GREATEST][0]))
        self._saved = None

    def begin_anew(self) -> None:
        """Go on with an empty replay."""
        self._saved = None
        self._empty()

    def let_go(self) -> bool:
        """Return False: rows stay in replay."""
        return False

    def policy_arrays(self) -> dict[str, np.ndarray]:
        """Return what acts."""
        return dqn.policy_arrays(self.state)

    def state_to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state as arrays and metadata."""
        arrays, meta = dqn.state_to_arrays(self.state)
        if self._prioritised is not None:
            weights, greatest = self._prioritised.priorities()
            arrays |= {_PRIORITIES: weights, _GREATEST: np.array([greatest])}
        return arrays, meta

    def exploration(self) -> float:
        """Return the epsilon that the schedule has for the agents now."""
        return dqn.exploration_at(self.state.config, self.counts.rows)

    def _empty(self) -> None:
        config, width = self.state.config, self.state.shape.observation_width
        self.replay = ReplayBuffer(config.replay_capacity, width)
        if config.priority:
            self._prioritised = PrioritisedReplay(config.replay_capacity, width, config.priority)
            self.replay = self._prioritised.buffer

    def _update(self) -> None:
        counts, settings = self.counts, self.settings
        fresh = counts.rows - counts.rows_at_update
        if counts.rows < settings.learning_starts or fresh < settings.min_rows or not len(self.replay):
            return
        counts.rows_at_update = counts.rows
        batch_size = self.state.config.batch_size
        wanted = (counts.rows - settings.learning_starts) * settings.samples_per_row
        while counts.sampled + batch_size <= wanted:
            counts.sampled += batch_size
            try:
                self._learned(self._step(batch_size))
            except LearnerDivergedError as error:
                # The state is as it was. One agent's absurd rewards must not stop the learning from all others.
                counts.skipped_updates += 1
                logger.warning("%s: an update was skipped: %s", self._task, error)

    def _step(self, rows: int) -> Mapping[str, float]:
        """Make one update; return its metrics."""
        if self._prioritised is None:
            self.state, metrics = dqn.update(self.state, self.replay.sample(self.state.rng, rows))
            return metrics
        correction = dqn.priority_correction_at(self.state.config, self.state.updates)
        drawn = self._prioritised.sample(self.state.rng, rows, correction)
        self.state, metrics, errors = dqn.update_prioritised(self.state, drawn.batch, drawn.weight)
        self._prioritised.reprioritise(drawn.places, errors)
        return metrics
