"""Simulators by environment name: how a version does on fixed traces, in the same world as its baselines.

A task whose environment is not in the table (`headrace.learners.simulate.environments`) gets its facts from the stream
alone.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.explain.evidence import Outcomes, RecordedDecisions
from headrace.learners.simulate.environments import environment_of
from headrace.schemas.records import Series

TRACES = 512
ALL = slice(None)


class Learned(Protocol):
    """What a simulator needs of a policy: `headrace.learners.acting.Policy` has it."""

    def q_values(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the value of each action, float32[B, A], of observations float32[B, D]."""


class Simulator(Protocol):
    """Fixed traces. Of the baselines on them: floor is what a first policy must beat, rules may be explored by."""

    floor: str
    rules: tuple[str, ...]

    def outcomes(self, policy: Learned, rows: slice = ALL) -> Outcomes:
        """Run the greedy policy on every trace, or on some rows of them."""

    def baselines(self) -> Mapping[str, Outcomes]:
        """Return how the baselines do on every trace."""

    def decisions(self, policy: Learned) -> RecordedDecisions:
        """Return what the greedy policy saw and decided, and what the baselines would have done there."""

    def episode(self, policy: Learned, name: str) -> list[Series]:
        """Return one episode's course for a plot; name: what the policy is called in it."""


@lru_cache(maxsize=4)
def simulator(environment: str | None, count: int = TRACES, seed: int = seeds.EXPLANATION.first) -> Simulator | None:
    """Return the environment's simulator on fixed traces, the same one every time; None where there is none."""
    own = environment_of(environment)
    return own.simulator(count, seed) if own else None


def greedy(policy: Learned) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
    """Return the function obs float32[B, D] -> int64[B] of the actions with the greatest values."""
    return lambda obs: np.asarray(policy.q_values(obs).argmax(axis=1), np.int64)


def measure_of(policy: Learned) -> str:
    """Say what a policy compares its actions by."""
    return "log-probability" if getattr(policy, "softmax", False) else "value"
