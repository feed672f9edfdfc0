"""What a learner becomes: a function of its settings, its seed and the rows that windows bring.

Nothing else enters: `policy replay` feeds the same rows in the same order and must come to the same weights.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass
from typing import Any, ClassVar, Literal, Protocol

import msgspec
import numpy as np

from headrace.schemas.transition import TransitionBatch


class Config(Protocol):
    """An algorithm's hyper-parameters: a frozen dataclass of plain values, so that `dataclasses.asdict` is JSON.

    algorithm: its name in the table of algorithms.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    algorithm: ClassVar[str]


Learned = Callable[[Mapping[str, float]], None]
"""Is told each update's metrics."""


@dataclass(frozen=True, slots=True)
class LearnSettings:
    """How a learner follows its stream.

    candidate_rows: rows between candidates. checkpoint_rows: rows between checkpoints. gate: "simulator" promotes what
    beats the serving policy there, and nothing where a task has none; "none" promotes every candidate.

    DQN alone. samples_per_row: rows drawn from replay per row that came in (the sample-to-insert ratio). min_rows: new
    rows before an update falls due. learning_starts: rows before the first.

    PPO alone. rollout_rows: new rows that an update learns from, at least. rollout_steps: the length at which a
    trajectory is cut, if it comes to that.
    """

    samples_per_row: float = 8.0
    min_rows: int = 1_024
    learning_starts: int = 5_000
    candidate_rows: int = 25_600
    checkpoint_rows: int = 65_536
    gate: Literal["simulator", "none"] = "simulator"
    gate_traces: int = 512
    rollout_rows: int = 6_400
    rollout_steps: int = 100


class Counts(msgspec.Struct):
    """How far a training has come.

    sampled: rows that updates used, each as often as it was. skipped_updates: those that would have diverged.
    without_log_prob: rows that PPO can't learn from, as they don't say how likely their action was. version: the
    newest policy version that came of this training; none that acts can be newer.
    """

    rows: int = 0
    sampled: int = 0
    rows_at_update: int = 0
    skipped_updates: int = 0
    without_log_prob: int = 0
    version: int = 0


class Training(Protocol):
    """One algorithm on one task's stream; updates fall due by counts of rows, never by time."""

    settings: LearnSettings
    counts: Counts

    @property
    def config(self) -> Config:
        """The algorithm's hyper-parameters; they may be set between two windows."""

    @config.setter
    def config(self, config: Config) -> None: ...

    @property
    def updates(self) -> int:
        """How many updates were made."""

    @property
    def held_rows(self) -> int:
        """How many of the newest rows it may still learn from: these must be put in again after a restart."""

    def take(self, pieces: Iterable[tuple[TransitionBatch, int]]) -> None:
        """Take in a window's rows, each batch's from the given one on, and make the updates that fall due."""

    def refill(self, batch: TransitionBatch, first_row: int) -> None:
        """Put in rows that were counted before."""

    def begin_refill(self, first_row: int) -> None:
        """Get ready for `refill`; first_row: how many rows came before those, since it last began anew."""

    def end_refill(self) -> None:
        """Note that all rows that were held are in."""

    def begin_anew(self) -> None:
        """Go on without the rows that were held: they are gone."""

    def let_go(self) -> bool:
        """Whether no row since the last update can matter any more; if so they are not held any longer."""

    def policy_arrays(self) -> dict[str, np.ndarray]:
        """Return what acts, for `acting.load_policy`."""

    def state_to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state as arrays and metadata, for `checkpoint.pack`."""

    def exploration(self) -> float:
        """Return the share of actions that are taken at random, beside the policy."""
