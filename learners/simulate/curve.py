"""A training's curve: points at equal distances, what is told at each, and what came of it in the end."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headrace.learners.simulate.training_environments import Step, TrainingEnvironment
from headrace.learners.stream.training import Config, S
from headrace.schemas.errors import EnvironmentFailedError

CURVE_POINTS = 50


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """Where training is.

    steps: of the environment so far, all episodes together. mean_return: of the episodes that ended since the last
    point, as reports quote it; None if none did. metrics: of the newest update. episodes: those that ended.
    """

    steps: int
    mean_return: float | None
    metrics: dict[str, float]
    episodes: int = 0


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training made: the policy's arrays, for `acting.load_policy`; steps taken, updates done, how it went."""

    arrays: dict[str, np.ndarray]
    steps: int
    updates: int
    curve: list[CurvePoint]


@dataclasses.dataclass(frozen=True)
class Moment:
    """A training between two updates, at a point of its curve. arrays: makes the policy's."""

    point: CurvePoint
    updates: int
    config: Config
    arrays: Callable[[], dict[str, np.ndarray]]


OnPoint = Callable[[CurvePoint], None]
Watch = Callable[[Moment], Mapping[str, Any]]
"""Is shown every moment; gives the fields of the configuration that hold from there on, if they change."""


class Curve:
    """Sums rewards by episode, in the unit that reports quote, and collects points at equal distances."""

    def __init__(
        self, environment: TrainingEnvironment, steps: int, on_point: OnPoint, watch: Watch | None, points: int
    ) -> None:
        self.points: list[CurvePoint] = []
        self._scale = environment.return_scale
        self._running = np.zeros(environment.count)
        self._ended: list[float] = []
        self._rewards: set[float] = set()
        self._terminated = False
        self._distance = max(1, steps // points)
        self._steps, self._on_point, self._watch = steps, on_point, watch

    def add(self, step: Step) -> None:
        """Take in a step's rewards."""
        self._running += step.reward
        done = step.terminated | step.truncated
        if len(self._rewards) < 2:
            self._rewards.update({float(step.reward.min()), float(step.reward.max())})
        if done.any():
            self._ended += (self._running[done] / self._scale).tolist()
            self._running[done] = 0.0
            self._terminated |= bool(step.terminated.any())

    def mark(
        self,
        steps: int,
        metrics: dict[str, float],
        state: S,
        updates: int,
        arrays: Callable[[S], dict[str, np.ndarray]],
    ) -> S:
        """Add a point if one is due, or training is over; give the state to go on with."""
        if steps < (len(self.points) + 1) * self._distance and steps < self._steps:
            return state
        ended, self._ended = self._ended, []
        point = CurvePoint(steps, float(np.mean(ended)) if ended else None, metrics, len(ended))
        self.points.append(point)
        self._on_point(point)
        if self._watch is None:
            return state
        changes = self._watch(Moment(point, updates, state.config, functools.partial(arrays, state)))
        return dataclasses.replace(state, config=dataclasses.replace(state.config, **changes))

    def finish(self) -> list[CurvePoint]:
        """Return the points; raises EnvironmentFailedError where every step earned the same and nothing terminated."""
        if len(self._rewards) == 1 and not self._terminated:
            raise EnvironmentFailedError(
                f"every reward was {next(iter(self._rewards)):g} and no episode terminated: there is nothing to learn"
            )
        return self.points


Follow = Callable[[TrainingEnvironment], Curve]
"""Begins the curve of a training in an environment."""


def seeds(seed: int) -> tuple[int, int, np.random.Generator]:
    """Return the seeds of the environment and of the learner, and the generator that acts."""
    environment, learner, acting = np.random.SeedSequence(seed).spawn(3)
    return int(environment.generate_state(1)[0]), int(learner.generate_state(1)[0]), np.random.default_rng(acting)
