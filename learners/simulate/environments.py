"""The table of environments that have a simulator of their own; any other is Gymnasium's, known by its id alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.scenarios import Variations

if TYPE_CHECKING:  # a record loads what it is made of; the table's names must cost nothing
    from headrace.learners.explain.simulation import Simulator
    from headrace.learners.simulate.training import TrainingConfig
    from headrace.learners.simulate.training_environments import TrainingEnvironment
    from headrace.schemas.outcomes import Measure

ENVIRONMENTS: Final[dict[str, str]] = {"headrace/CloudService-v0": "headrace.learners.cloud.environment"}
"""By id: the module that holds the environment's record as `ENVIRONMENT`."""

CALLED: Final[Mapping[str, str]] = {"random": "random play", "constant": "the best constant action"}
"""What text calls the baselines of any other environment."""

Act = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""Gives the actions int64[N] of observations float32[N, D]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An environment as headrace knows it; its actions are discrete.

    task: what its policies are stored under, unless another is named. width, actions: D and A. baselines: the names of
    what a policy can be compared with. training: what is trained in, by the arguments of `training_environment`.
    simulator: what policies are judged and explained in, by number and seed of its traces and
    the task's outcomes. returns: runs a policy, or
    the baseline of a name, on so many traces of a seed: unscaled, float64[N]. preset: how an algorithm trains best in
    it, where that was measured. called: what text calls the baselines. advised: what each of its rules would do at the
    last of an episode's observations float32[T, D], by name. variations: what of it may be varied in training.
    """

    task: str
    width: int
    actions: int
    baselines: tuple[str, ...]
    training: "Callable[..., TrainingEnvironment]"
    simulator: "Callable[[int, int, tuple[Measure, ...]], Simulator]"
    returns: Callable[[Act | str, int, int], NDArray[np.float64]]
    preset: "Callable[[str], TrainingConfig | None]"
    called: Mapping[str, str] = field(default_factory=dict)
    advised: Callable[[NDArray[np.float32]], Mapping[str, int]] | None = None
    variations: Callable[[], Variations] | None = None


def environment_of(name: str | None) -> Environment | None:
    """Return an environment's record; None where the table has none."""
    if name not in ENVIRONMENTS:
        return None
    found: Environment = import_module(ENVIRONMENTS[name]).ENVIRONMENT
    return found
