"""Simulators by environment name: how a version does on fixed traces, in the same world as its baselines.

An environment in the table (`headrace.learners.simulate.environments`) has its own; any other is Gymnasium's, by its
id. A task that names none gets its facts from the stream alone.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.explain.evidence import Outcomes, RecordedDecisions
from headrace.learners.simulate.environments import environment_of
from headrace.schemas.errors import EnvironmentFailedError
from headrace.schemas.outcomes import Measure, measures
from headrace.schemas.records import Series, TaskSpec

TRACES = 512
ALL = slice(None)


@runtime_checkable
class Valued(Protocol):
    """What a simulator needs of a policy that compares actions: `headrace.learners.acting.Policy` has it."""

    def q_values(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the value of each action, float32[B, A], of observations float32[B, D]."""


class Continuous(Protocol):
    """What a simulator needs of a policy over vectors: `headrace.learners.acting.BoxPolicy` has it."""

    def act(self, obs: NDArray[np.float32]) -> NDArray[Any]:
        """Return actions float32[B, A] of observations float32[B, D]."""


Learned = Valued | Continuous


class Simulator(Protocol):
    """Fixed traces. rules: of the baselines on them those that may be explored by."""

    rules: tuple[str, ...]

    @property
    def floor(self) -> str:
        """The baseline that a first policy must beat."""

    @property
    def familiar(self) -> str:
        """The baseline that most people have met: outcomes are told beside it."""

    @property
    def count(self) -> int:
        """How many traces there are."""

    @property
    def repeats(self) -> bool:
        """Whether the same trace and actions give the same return."""

    def outcomes(self, policy: Learned, rows: slice = ALL) -> Outcomes:
        """Run the policy on every trace, or on some rows of them, by what it holds for the best."""

    def baselines(self) -> Mapping[str, Outcomes]:
        """Return how the baselines do on every trace."""

    def floored(self, rows: slice = ALL) -> Outcomes:
        """Run the floor on every trace, or on some rows of them."""

    def decisions(self, policy: Learned) -> RecordedDecisions | None:
        """Return what the greedy policy saw and decided, and what the baselines would have done there, if known."""

    def episode(self, policy: Learned, name: str) -> list[Series]:
        """Return one episode's course for a plot, nothing where there is none; name: what the policy is called.

        The first series is what came from outside, its name with the unit; its two labels are those of the axes of time
        and of the other series.
        """


@lru_cache(maxsize=4)
def simulator(
    environment: str | None,
    count: int = TRACES,
    seed: int = seeds.EXPLANATION.first,
    outcomes: tuple[Measure, ...] = (),
) -> Simulator | None:
    """Return the environment's simulator on fixed traces, the same one every time; None where there is none.

    count: of traces, at most: fewer where an episode may be long. outcomes: of a task, measured beside the return.
    Raises EnvironmentFailedError, SettingsError.
    """
    own = environment_of(environment)
    if own is not None:
        return own.simulator(count, seed, outcomes)
    if environment is None:
        return None
    from headrace.learners.simulate.gymnasium_simulator import GymnasiumSimulator, affordable  # noqa: PLC0415 a cycle

    return GymnasiumSimulator(environment, affordable(environment, count), seed, outcomes)


def fresh_simulator(environment: str, count: int, seed: int, outcomes: tuple[Measure, ...] = ()) -> Simulator:
    """Make the environment's simulator for exactly so many traces, which are not needed again."""
    own = environment_of(environment)
    if own is not None:
        return own.simulator(count, seed, outcomes)
    from headrace.learners.simulate.gymnasium_simulator import GymnasiumSimulator  # noqa: PLC0415 a cycle

    return GymnasiumSimulator(environment, count, seed, outcomes)


def task_simulator(spec: TaskSpec, count: int = TRACES, seed: int = seeds.EXPLANATION.first) -> Simulator | None:
    """Return `simulator` of a task's environment; None where it names none.

    Raises EnvironmentFailedError where the environment can't be made here, or does not fit the task.
    """
    from headrace.learners.simulate.fitting import misfit  # noqa: PLC0415 it loads Gymnasium

    problem = misfit(spec)
    if problem:
        raise EnvironmentFailedError(problem)
    return simulator(spec.environment_id, count, seed, measures(spec))


def greedy(policy: Valued) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
    """Return the function obs float32[B, D] -> int64[B] of the actions with the greatest values."""
    return lambda obs: np.asarray(policy.q_values(obs).argmax(axis=1), np.int64)


def acting(policy: Learned) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """Return the function of observations to the actions that the policy holds for the best."""
    return greedy(policy) if isinstance(policy, Valued) else policy.act


def measure_of(policy: Valued) -> str:
    """Say what a policy compares its actions by."""
    return "log-probability" if getattr(policy, "softmax", False) else "value"
