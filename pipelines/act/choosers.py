"""What an agent may act by: a policy, greedy or exploring; chance; a rule; a constant. NumPy alone, no I/O.

Each chooses for one observation float32[D] (`one`) and for a batch float32[B, D] (`many`), and says how likely what it
chose was: the log of a probability, or of a density; None (`one`) or NaN (`many`) where that is not known.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from headrace.learners.acting import BoxPolicy, Policy, epsilon_at
from headrace.learners.stream.exploring import Exploration

Floats = NDArray[np.floating]
Actions = NDArray[Any]
Rule = Callable[[Any], Any]
"""Gives an action for an observation as the agent is given it."""


class Chooser(Protocol):
    """What acts. version: the policy version, None where it is none. shape: (D,), or () where any will do."""

    version: int | None
    shape: tuple[int, ...]

    def one(self, obs: Floats) -> tuple[Any, float | None]:
        """Return an action (int, or float32[A]) for float32[D], and its log-probability."""

    def many(self, obs: Floats) -> tuple[Actions, Floats]:
        """Return actions (int64[B], or float32[B, A]) for float32[B, D], and their log-probabilities float[B]."""


class Greedy(Chooser):
    """The policy's best action each time: certain where actions are discrete; a density says nothing of the others."""

    def __init__(self, policy: Policy | BoxPolicy, version: int) -> None:
        self.version, self.shape = version, (policy.observation_width,)
        self._policy = policy
        self._log_prob = None if isinstance(policy, BoxPolicy) else 0.0

    @override
    def one(self, obs: Floats) -> tuple[Any, float | None]:
        return self._policy.decide(obs), self._log_prob

    @override
    def many(self, obs: Floats) -> tuple[Actions, Floats]:
        if isinstance(self._policy, BoxPolicy):
            return self._policy.act(obs), _unknown(len(obs))
        return self._policy.q_values(obs).argmax(axis=1), np.zeros(len(obs))


class Drawn(Chooser):
    """A draw from a policy that is a distribution: a softmax, or normals."""

    def __init__(self, policy: Policy | BoxPolicy, version: int, rng: np.random.Generator) -> None:
        self.version, self.shape = version, (policy.observation_width,)
        self._one, self._many = policy.sample_one, policy.sample
        self._rng = rng

    @override
    def one(self, obs: Floats) -> tuple[Any, float | None]:
        return self._one(obs, self._rng)

    @override
    def many(self, obs: Floats) -> tuple[Actions, Floats]:
        return self._many(obs, self._rng)


class EpsilonGreedy(Chooser):
    """The policy's best action, or, as often as the schedule says, a random one.

    steps: where the schedule begins; each action is a step further.
    """

    def __init__(
        self, policy: Policy, version: int, exploration: Exploration, steps: int, rng: np.random.Generator
    ) -> None:
        self.version, self.shape = version, (policy.observation_width,)
        self.exploration = exploration
        self.steps = steps
        self._policy = policy
        self._rng = rng

    @property
    def epsilon(self) -> float:
        """The share of random actions now."""
        now = self.exploration
        return epsilon_at(self.steps, now.start, now.end, now.steps)

    @override
    def one(self, obs: Floats) -> tuple[Any, float | None]:
        epsilon = self.epsilon
        self.steps += 1
        return self._policy.explore_one(obs, epsilon, self._rng)

    @override
    def many(self, obs: Floats) -> tuple[Actions, Floats]:
        epsilon = self.epsilon
        self.steps += len(obs)
        return self._policy.explore(obs, epsilon, self._rng)


class UniformChoice(Chooser):
    """Each of A actions alike."""

    version, shape = None, ()

    def __init__(self, actions: int, rng: np.random.Generator) -> None:
        self._actions = actions
        self._log_prob = -math.log(actions)
        self._rng = rng

    @override
    def one(self, obs: Floats) -> tuple[Any, float | None]:
        return int(self._rng.random() * self._actions), self._log_prob

    @override
    def many(self, obs: Floats) -> tuple[Actions, Floats]:
        return self._rng.integers(self._actions, size=len(obs)), np.full(len(obs), self._log_prob)


class UniformBox(Chooser):
    """Continuous actions: uniform between two bounds; beyond a single one, or without any, as a normal falls off."""

    version, shape = None, ()

    def __init__(self, low: Floats, high: Floats, rng: np.random.Generator) -> None:
        self._low, self._high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        above, below = np.isfinite(self._low), np.isfinite(self._high)
        self._between, self._above, self._below = above & below, above & ~below, below & ~above
        span = np.where(self._between, self._high - self._low, 1.0)
        self._fixed = float(-np.log(np.where(span > 0.0, span, 1.0)).sum() + math.log(2.0) * (above ^ below).sum())
        self._rng = rng

    @override
    def one(self, obs: Floats) -> tuple[Any, float | None]:
        actions, log_probs = self.many(obs[None])
        return actions[0], float(log_probs[0])

    @override
    def many(self, obs: Floats) -> tuple[Actions, Floats]:
        shape = (len(obs), len(self._low))
        noise, share = self._rng.standard_normal(shape), self._rng.random(shape)
        density = np.where(self._between, 0.0, -0.5 * noise**2 - 0.5 * math.log(2.0 * math.pi)).sum(axis=1)
        size = np.abs(noise)
        with np.errstate(over="ignore", invalid="ignore"):  # where there is no bound, what it gives is not taken
            inside = self._low + share * (self._high - self._low)
        sides = [self._between, self._above, self._below]
        actions = np.select(sides, [inside, self._low + size, self._high - size], noise)
        return actions.astype(np.float32), density + self._fixed


class Ruled(Chooser):
    """A decision rule's actions. How likely they were is not known: a learner that needs that passes them over."""

    version, shape = None, ()

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    @override
    def one(self, obs: Floats) -> tuple[Any, float | None]:
        return self._rule(obs), None

    @override
    def many(self, obs: Floats) -> tuple[Actions, Floats]:
        return np.array([self._rule(row) for row in obs]), _unknown(len(obs))


def _unknown(count: int) -> Floats:
    return np.full(count, np.nan)
