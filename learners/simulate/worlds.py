"""Worlds to train in: many episodes at once, each of which starts again by itself.

A step tells what truly followed (`next_obs`), also where an episode ends; the world's `obs` is then
already the next episode's first. Everything random comes from the world's seed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from headrace.learners.prior import RulePrior
from headrace.learners.simulate.environments import environment_of
from headrace.learners.spaces import NumericSpaces, make_environment
from headrace.learners.stream.exploring import Rule
from headrace.schemas.errors import EnvironmentFailedError


class Step(NamedTuple):
    """What one step of N episodes brought.

    Attributes:
        reward: float32[N], as the environment gives it.
        shadow: float32[N], what a rule earned on the same randomness; None where none runs along.
        terminated: bool[N].
        truncated: bool[N].
        next_obs: float32[N, D], what followed.
        next_privileged: float32[N, P], likewise; None where P is 0.
    """

    reward: np.ndarray
    shadow: np.ndarray | None
    terminated: np.ndarray
    truncated: np.ndarray
    next_obs: np.ndarray
    next_privileged: np.ndarray | None


class World(Protocol):
    """N episodes in lockstep.

    Attributes:
        count: N.
        width: D.
        actions: A, number of discrete actions or dimensions of continuous ones.
        bounds: float32[2, A], lowest and highest continuous action; None where actions are discrete.
        privileged_width: P.
        features: float32[D, K], what learners are given beside the observation; or None.
        prior: a rule to start from; or None.
        rules: by name, what makes a decision rule that exploration may follow.
        return_scale: rewards are this times what reports quote.
        obs: float32[N, D], what the next actions are for.
        privileged: float32[N, P], of the same moment; None where P is 0.
    """

    count: int
    width: int
    actions: int
    bounds: np.ndarray | None
    privileged_width: int
    features: np.ndarray | None
    prior: RulePrior | None
    rules: Mapping[str, Callable[[], Rule]]
    return_scale: float
    obs: np.ndarray
    privileged: np.ndarray | None

    def step(self, actions: np.ndarray) -> Step:
        """One step of all episodes; actions: int64[N], or float32[N, A]."""


class GymWorld:
    """N copies of a Gymnasium environment, one after another; observations are flattened.

    Args:
        environment: its id.
        count: N.
        seed: each copy has a seed of its own, made of this.

    Raises:
        EnvironmentFailedError: there is none of that id.
        SettingsError: its spaces are no numbers.
    """

    def __init__(self, environment: str, count: int, seed: int) -> None:
        self._name = environment
        self._environments = [make_environment(environment) for _ in range(count)]
        one = self._environments[0]
        self._spaces = NumericSpaces(one.observation_space, one.action_space)
        self.count = count
        self.width = self._spaces.width
        self.actions = self._spaces.actions
        self.bounds: np.ndarray | None = self._spaces.bounds
        self.privileged_width = 0
        self.features: np.ndarray | None = None
        self.prior: RulePrior | None = None
        self.rules: Mapping[str, Callable[[], Rule]] = {}
        self.return_scale = 1.0
        self.privileged: np.ndarray | None = None
        seeds = np.random.SeedSequence(seed).generate_state(count)
        self.obs = np.stack([self._reset(i, int(seeds[i])) for i in range(count)])

    def step(self, actions: np.ndarray) -> Step:
        """One step of all; those whose episode ended begin another."""
        next_obs, reward = np.empty_like(self.obs), np.empty(self.count, np.float32)
        terminated, truncated = np.zeros(self.count, np.bool_), np.zeros(self.count, np.bool_)
        obs = np.empty_like(self.obs)
        for i, environment in enumerate(self._environments):
            try:
                found, reward[i], terminated[i], truncated[i], _ = environment.step(self._spaces.action(actions[i]))
            except Exception as error:
                raise self._failed("step", error) from error
            next_obs[i] = self._spaces.flat(found)
            obs[i] = self._reset(i, None) if terminated[i] or truncated[i] else next_obs[i]
        self.obs = obs
        return Step(reward, None, terminated, truncated, next_obs, None)

    def close(self) -> None:
        """Close the environments."""
        for environment in self._environments:
            environment.close()

    def _reset(self, index: int, seed: int | None) -> np.ndarray:
        try:
            return self._spaces.flat(self._environments[index].reset(seed=seed)[0])
        except Exception as error:
            raise self._failed("reset", error) from error

    def _failed(self, verb: str, error: Exception) -> EnvironmentFailedError:
        return EnvironmentFailedError(
            f"environment {self._name} raised in {verb}: {type(error).__name__}: {error}: nothing was stored; mend the "
            "environment and train again"
        )


def make_world(environment: str, count: int, seed: int, *, privileged: bool = False, shadow: bool = False) -> World:
    """The environment's own fast world, else Gymnasium's environment of that id.

    Raises:
        EnvironmentFailedError, SettingsError: as in `GymWorld`.
    """
    own = environment_of(environment)
    return own.world(count, seed, privileged=privileged, shadow=shadow) if own else GymWorld(environment, count, seed)


class Returns:
    """Sums rewards by episode, in the unit that reports quote, and remembers what ended since it was last asked."""

    def __init__(self, count: int, scale: float) -> None:
        self.episodes = 0
        self._running = np.zeros(count)
        self._scale = scale
        self._ended: list[float] = []
        self._rewards: set[float] = set()
        self._terminated = False

    def add(self, step: Step) -> None:
        """Take a step in."""
        self._running += step.reward
        done = step.terminated | step.truncated
        if len(self._rewards) < 2:
            self._rewards.update({float(step.reward.min()), float(step.reward.max())})
        if done.any():
            self._ended += (self._running[done] / self._scale).tolist()
            self._running[done] = 0.0
            self._terminated |= bool(step.terminated.any())

    def take(self) -> Sequence[float]:
        """The returns of the episodes that ended since the last call."""
        ended, self._ended = self._ended, []
        self.episodes += len(ended)
        return ended

    def require_news(self) -> None:
        """Raise EnvironmentFailedError if every step earned the same and no episode terminated: nothing to learn."""
        if len(self._rewards) == 1 and not self._terminated:
            raise EnvironmentFailedError(
                f"every reward was {next(iter(self._rewards)):g} and no episode terminated: there is nothing to learn"
            )
