"""What a learner becomes: a function of its settings, its seed and the rows that windows bring.

Nothing else enters: `policy replay` feeds the same rows in the same order and must come to the same weights.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, replace
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

import msgspec
import numpy as np

from headrace.schemas.errors import LearnerDivergedError
from headrace.schemas.transition import TransitionBatch

logger = logging.getLogger(__name__)


class Config(Protocol):
    """An algorithm's hyper-parameters: a frozen dataclass of plain values, so that `dataclasses.asdict` is JSON.

    algorithm: its name in the table of algorithms.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    algorithm: ClassVar[str]


def require_ranges(config: Config, *, shares: Iterable[str], positive: Iterable[str]) -> None:
    """Raise ValueError if a share of a configuration does not lie in [0, 1], or a positive number is not."""
    for name in shares:
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {getattr(config, name)}")
    for name in positive:
        if getattr(config, name) <= 0:
            raise ValueError(f"{name} must be positive, got {getattr(config, name)}")


Gate = Literal["auto", "simulator", "data", "none"]
Piece = tuple[TransitionBatch, int]
"""A chunk's rows, and the first of them that is new."""
Learned = Callable[[Mapping[str, float]], None]
"""Is told each update's metrics."""


PACE_WINDOWS: Final = 4
PACE_ROWS: Final = (6_400, 25_600)
"""Fewer rows teach little before the next test; after more, agents would wait for a policy that is there."""


@dataclass(frozen=True, slots=True)
class LearnSettings:
    """How a learner follows its stream.

    candidate_rows: rows between candidates; 0 for as many as four windows of the task bring, but `PACE_ROWS` at the
    outside. checkpoint_rows: rows between checkpoints. gate: "simulator" promotes what beats the serving policy there,
    and nothing where a task has none; "data" what is shown to by the rows that came; "auto" asks the simulator where
    there is one, else the rows; "none" promotes every candidate. margin: how much
    worse than the best version a candidate may be that an on-policy algorithm has made, in standard deviations of the
    returns; a tenth is half of what Cohen (1988, "Statistical Power Analysis") calls a small effect. refusals: after so
    many candidates in a row that the gate refused learning goes on from what serves, and again after twice as many more
    each time; 0 for never.

    DQN alone. samples_per_row: rows drawn from replay per row that came in (the sample-to-insert ratio). min_rows: new
    rows before an update falls due. learning_starts: rows before the first.

    PPO alone. rollout_rows: new rows that an update learns from, at least. rollout_steps: the length at which a
    trajectory is cut, if it comes to that.
    """

    samples_per_row: float = 8.0
    min_rows: int = 1_024
    learning_starts: int = 5_000
    candidate_rows: int = 0
    checkpoint_rows: int = 65_536
    gate: Gate = "auto"
    gate_traces: int = 512
    margin: float = 0.1
    refusals: int = 3
    rollout_rows: int = 3_200
    rollout_steps: int = 100

    def candidate_after(self, rows: int, windows: int) -> int:
        """Return the rows from one candidate to the next, of a task of which so many rows came in so many windows."""
        least, most = PACE_ROWS
        return self.candidate_rows or min(max(PACE_WINDOWS * rows // max(1, windows), least), most)

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        positive = ("samples_per_row", "min_rows", "checkpoint_rows", "gate_traces", "rollout_rows", "rollout_steps")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("learning_starts", "candidate_rows", "margin", "refusals"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


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


class State(Protocol):
    """What an algorithm goes on from: a frozen dataclass that holds its configuration."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def config(self) -> Config:
        """The hyper-parameters."""


S = TypeVar("S", bound=State)


class Training(ABC, Generic[S]):
    """One algorithm on one task's stream; updates fall due by counts of rows, never by time."""

    def __init__(
        self,
        state: S,
        task: str,
        settings: LearnSettings,
        learned: Learned,
        counts: Counts | None = None,
        saved: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """saved: the arrays of the checkpoint that it goes on from."""
        self.state = state
        self.settings = settings
        self.counts = counts or Counts()
        self._task = task
        self._learned = learned
        self._saved = saved
        self._forget()

    @property
    def config(self) -> Config:
        """The algorithm's hyper-parameters; they may be set between two windows."""
        return self.state.config

    @config.setter
    def config(self, config: Config) -> None:
        self.state = replace(self.state, config=config)

    @property
    @abstractmethod
    def updates(self) -> int:
        """How many updates were made."""

    @property
    @abstractmethod
    def held_rows(self) -> int:
        """How many of the newest rows it may still learn from: these must be put in again after a restart."""

    def take(self, pieces: Iterable[Piece]) -> None:
        """Take in a window's rows, and make the updates that fall due."""
        for batch, first_row in pieces:
            self._add(batch.slice(first_row, len(batch)))
            self.counts.rows += len(batch) - first_row
        self._update()

    def refill(self, pieces: Iterable[Piece], before: int) -> None:  # noqa: ARG002 replay's places depend on it
        """Put in the rows that were held; before: how many came before those, since it last began anew."""
        for batch, first_row in pieces:
            self._add(batch.slice(first_row, len(batch)))

    def begin_anew(self) -> None:
        """Go on without the rows that were held: they are gone."""
        self._saved = None
        self._forget()

    def let_go(self) -> bool:
        """Whether no row since the last update can matter any more; if so they are not held any longer."""
        return False

    def go_back(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from a policy's weights and its normaliser, without momentum; rows and counts stay.

        arrays: as `policy_arrays` gives them. Raises ValueError where they are of another net.
        """
        own, given = ({name: array.shape for name, array in of.items()} for of in (self.policy_arrays(), arrays))
        if own != given:
            differing = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
            raise ValueError(f"the policy is of another net: {', '.join(differing)} differ")
        self.state = self._gone_back(arrays)

    def _gone_back(self, arrays: Mapping[str, np.ndarray]) -> S:  # noqa: ARG002 for those that can
        """Return the state with a policy's weights, which are of the same net; raises ValueError where it can't."""
        raise ValueError(f"{self.config.algorithm} has no way back to a policy's weights")

    @abstractmethod
    def policy_arrays(self) -> dict[str, np.ndarray]:
        """Return what acts, for `acting.load_policy`."""

    @abstractmethod
    def state_to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state as arrays and metadata, for `checkpoint.pack`."""

    def exploration(self) -> float:
        """Return the share of actions that are taken at random, beside the policy."""
        return 0.0

    @abstractmethod
    def _forget(self) -> None:
        """Hold no rows."""

    @abstractmethod
    def _add(self, rows: TransitionBatch) -> None: ...

    @abstractmethod
    def _update(self) -> None: ...

    def _try(self, update: Callable[[], tuple[S, dict[str, float]]]) -> dict[str, float] | None:
        """Make an update; None where it would have diverged, and the state is as it was.

        One agent's absurd rewards must not stop the learning from all other rows.
        """
        try:
            self.state, metrics = update()
        except LearnerDivergedError as error:
            self.counts.skipped_updates += 1
            logger.warning("%s: an update was skipped: %s", self._task, error)
            return None
        self._learned(metrics)
        return metrics
