"""Environments to train in: many episodes at once, each of which starts again by itself.

A step tells what truly followed (`next_obs`), also where an episode ends; the environment's `obs` is then already the
next episode's first. Everything random comes from the environment's seed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from headrace.learners.prior import RulePrior
from headrace.learners.simulate.environments import environment_of
from headrace.learners.simulate.scenarios import chosen
from headrace.learners.spaces import NumericSpaces, make_environment, varied
from headrace.learners.stream.exploring import DecisionRule
from headrace.schemas.errors import EnvironmentFailedError, SettingsError
from headrace.schemas.scenarios import Scenario


class Step(NamedTuple):
    """What one step of N episodes brought.

    reward: float32[N], as the environment gives it. shadow: float32[N], what a rule earned on the same randomness; None
    where none runs along. terminated, truncated: bool[N]. next_obs: float32[N, D], what followed. next_privileged:
    float32[N, P], likewise; None where P is 0.
    """

    reward: np.ndarray
    shadow: np.ndarray | None
    terminated: np.ndarray
    truncated: np.ndarray
    next_obs: np.ndarray
    next_privileged: np.ndarray | None


class TrainingEnvironment(ABC):
    """N episodes in lockstep.

    count: N. width: D. actions: A, number of discrete actions or dimensions of continuous ones. obs: float32[N, D],
    what the next actions are for. What not every environment has: bounds: float32[2, A], lowest and highest continuous
    action. privileged: float32[N, P], what no agent sees of the same moment. features: float32[D, K], what learners are
    given beside the observation. prior: a rule to start from. rules: what makes a decision rule that exploration may
    follow. return_scale: rewards are this times what reports quote.
    """

    count: int
    width: int
    actions: int
    obs: np.ndarray
    bounds: np.ndarray | None = None
    privileged_width = 0
    privileged: np.ndarray | None = None
    features: np.ndarray | None = None
    prior: RulePrior | None = None
    rules: Mapping[str, Callable[[], DecisionRule]] = {}
    return_scale = 1.0

    @abstractmethod
    def step(self, actions: np.ndarray) -> Step:
        """One step of all episodes; actions: int64[N], or float32[N, A]."""


class GymTrainingEnvironment(TrainingEnvironment):
    """N copies of a Gymnasium environment, one after another, each with a seed of its own; observations are flattened.

    scenarios: of some of the copies, as evenly as their shares allow. Raises EnvironmentFailedError where there is none
    of that id, SettingsError where its spaces are no numbers, or a scenario's are others.
    """

    def __init__(self, name: str, count: int, seed: int, scenarios: Sequence[Scenario] = ()) -> None:
        self._name = name
        turns = chosen(scenarios, (np.arange(count) + 0.5) / count)
        names = [*(varied(name, one.changes) for one in scenarios), name]
        self._environments = [make_environment(names[turn]) for turn in turns]
        one = self._environments[0]
        self._spaces = NumericSpaces(one.observation_space, one.action_space)
        self.count, self.width, self.actions = count, self._spaces.width, self._spaces.actions
        self.bounds = self._spaces.bounds
        for made in self._environments:
            if (made.observation_space, made.action_space) != (one.observation_space, one.action_space):
                raise SettingsError(f"scenarios of {name} must have its observations and actions: {made.spec} has not")
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
            except (Exception, SystemExit) as error:
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
        except (Exception, SystemExit) as error:
            raise self._failed("reset", error) from error

    def _failed(self, verb: str, error: BaseException) -> EnvironmentFailedError:
        return EnvironmentFailedError(
            f"environment {self._name} raised in {verb}: {type(error).__name__}: {error}: nothing was stored; mend the "
            "environment and train again"
        )


def training_environment(
    name: str,
    count: int,
    seed: int,
    *,
    privileged: bool = False,
    shadow: bool = False,
    scenarios: Sequence[Scenario] = (),
) -> TrainingEnvironment:
    """Return the environment's own fast one, else Gymnasium's of that id, with its errors.

    privileged: whether it tells what no agent sees. shadow: whether a rule runs along. scenarios: its variations that
    some of the episodes are of.
    """
    own = environment_of(name)
    if own is None:
        return GymTrainingEnvironment(name, count, seed, scenarios)
    return own.training(count, seed, privileged=privileged, shadow=shadow, scenarios=scenarios)
