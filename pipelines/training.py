"""What a learner becomes: replay and updates, a function of its settings, its seed and the rows that windows bring.

Nothing else enters: `policy replay` feeds the same rows in the same order and must come to the same weights.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from headrace.learners import dqn
from headrace.learners.replay import Batch, ReplayBuffer
from headrace.schemas.errors import LearnerDivergedError
from headrace.schemas.transition import TransitionBatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LearnSettings:
    """How a learner follows its stream.

    samples_per_row: rows drawn from replay per row that came in (the sample-to-insert ratio). min_rows: new rows
    before an update falls due. learning_starts: rows before the first. candidate_rows: rows between candidates.
    checkpoint_rows: rows between checkpoints. gate: "simulator" promotes what beats the serving policy there, and
    nothing where a task has none; "none" promotes every candidate.
    """

    samples_per_row: float = 8.0
    min_rows: int = 1_024
    learning_starts: int = 5_000
    candidate_rows: int = 25_600
    checkpoint_rows: int = 65_536
    gate: Literal["simulator", "none"] = "simulator"
    gate_traces: int = 512


class Counts(msgspec.Struct):
    """How far a training has come. skipped_updates: those that would have diverged."""

    rows: int = 0
    sampled: int = 0
    rows_at_update: int = 0
    skipped_updates: int = 0


class Training:
    """A DQN, its replay buffer and its counts; updates fall due by counts of rows, never by time."""

    def __init__(
        self,
        state: dqn.DQNState,
        settings: LearnSettings,
        counts: Counts | None = None,
        *,
        task: str = "",
        learned: Callable[[Mapping[str, float]], None] = lambda _: None,
    ) -> None:
        """learned: is told each update's metrics."""
        self.state = state
        self.settings = settings
        self.counts = counts or Counts()
        self.replay = ReplayBuffer(state.config.replay_capacity, state.shape.observation_width)
        self._task = task
        self._learned = learned

    def take(self, pieces: Iterable[tuple[TransitionBatch, int]]) -> None:
        """Take in a window's rows, each batch's from the given one on, and make the updates that fall due."""
        for batch, first_row in pieces:
            self.refill(batch, first_row)
            self.counts.rows += len(batch) - first_row
        self._update()

    def refill(self, batch: TransitionBatch, first_row: int) -> None:
        """Put rows into replay that were counted before."""
        rows = batch.slice(first_row, len(batch))
        self.replay.add(Batch(rows.obs, rows.action.astype(np.int64), rows.reward, rows.next_obs, rows.terminated))

    def _update(self) -> None:
        counts, settings = self.counts, self.settings
        fresh = counts.rows - counts.rows_at_update
        if counts.rows < settings.learning_starts or fresh < settings.min_rows or not len(self.replay):
            return
        counts.rows_at_update = counts.rows
        batch_size = self.state.config.batch_size
        wanted = (counts.rows - settings.learning_starts) * settings.samples_per_row
        while counts.sampled + batch_size <= wanted:
            batch = self.replay.sample(self.state.rng, batch_size)
            counts.sampled += batch_size
            try:
                self.state, metrics = dqn.update(self.state, batch)
                self._learned(metrics)
            except LearnerDivergedError as error:
                # The state is as it was. One agent's absurd rewards must not stop the learning from all others.
                counts.skipped_updates += 1
                logger.warning("%s: an update was skipped: %s", self._task, error)
