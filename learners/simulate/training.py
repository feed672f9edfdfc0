"""Training by simulation: functions of (configuration, seed, steps) alone.

The same configuration, seed and number of steps give the same weights to the bit, on one machine and one thread.
Nothing here knows the time.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from headrace.learners.simulate.curve import CURVE_POINTS, Curve, Follow, OnPoint, Trained, Watch
from headrace.learners.simulate.environments import environment_of
from headrace.learners.stream.algorithms import algorithm
from headrace.learners.stream.training import Config
from headrace.schemas.scenarios import Scenario


class TrainingConfig(Protocol):
    """How an algorithm trains in an environment: a dataclass of plain values and the algorithm's own configuration."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def config(self) -> Config:
        """The algorithm's own."""

    def plain(self) -> "TrainingConfig":
        """Return it without what a simulator offers beyond observations and rewards."""

    def without_wait(self) -> "TrainingConfig":
        """Return it with updates from the first rows on, so that a short run costs a step what a long one does."""

    def train(
        self, environment: str, seed: int, steps: int, follow: Follow, scenarios: Sequence[Scenario] = ()
    ) -> Trained:
        """Train in an environment for at least `steps` steps; raises as `simulate.training.train` does."""


def training_for(name: str, environment: str) -> TrainingConfig:
    """The configuration for an environment; what has none of its own gets one that suits small control tasks."""
    own = environment_of(environment)
    return (own and own.preset(name)) or algorithm(name).simulated


def train(
    training: TrainingConfig,
    environment: str,
    seed: int,
    steps: int,
    on_point: OnPoint = lambda _: None,
    *,
    watch: Watch | None = None,
    points: int = CURVE_POINTS,
    scenarios: Sequence[Scenario] = (),
) -> Trained:
    """Train for at least so many environment steps, all episodes together; seed: of everything random.

    on_point: is told each point of the curve. watch: may look at the policy there, and change the configuration.
    scenarios: variations of the environment that some of the episodes are of.
    Raises EnvironmentFailedError where the environment raised, or nothing can be learned in it, LearnerDivergedError
    where a loss or gradient is not finite, or beyond its limit.
    """
    follow = functools.partial(Curve, steps=steps, on_point=on_point, watch=watch, points=points)
    return training.train(environment, seed, steps, follow, scenarios)
