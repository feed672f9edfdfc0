"""Episodes of a Gymnasium environment, one a seed: some at a time, so that their policy decides in batches."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import gymnasium
import numpy as np
from numpy.typing import NDArray

from headrace.learners.spaces import NumericSpaces, make_environment
from headrace.schemas.errors import EnvironmentFailedError
from headrace.schemas.outcomes import Measure, tallied

UNLIMITED: Final = 1_000
"""Steps at which an episode is cut where its environment names no limit of its own (`max_episode_steps`)."""
_AT_ONCE: Final = 32

ActOn = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Gives the actions, int64[B] or float32[B, A], of observations float32[B, D]."""


class Episodes:
    """Plays an environment. spaces: its observations and actions as numbers. limit: the steps of an episode, at most.

    limited: whether that limit is the environment's own.

    Raises EnvironmentFailedError where there is none of that name, SettingsError where its spaces are no numbers.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._copies: list[gymnasium.Env[Any, Any]] = [make_environment(name)]
        one = self._copies[0]
        self.spaces = NumericSpaces(one.observation_space, one.action_space)
        own = one.spec and one.spec.max_episode_steps
        self.limited, self.limit = bool(own), own or UNLIMITED

    def returns(self, act: ActOn, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Return the undiscounted sums of rewards of an episode of each seed, float64[N]; raises as `played` does."""
        return self.played(act, seeds)[0]

    def played(
        self, act: ActOn, seeds: Sequence[int], outcomes: Sequence[Measure] = ()
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the returns of an episode of each seed, float64[N], and what each adds to outcomes, float64[N, 2 * O].

        Reward terms are not known here: outcomes that are read from them have no rows.

        Raises EnvironmentFailedError where the environment raised, or gave a reward that is no finite number.
        """
        try:
            return self._played(act, seeds, outcomes)
        except (Exception, SystemExit) as error:  # neither may end the process that judges by it
            raise EnvironmentFailedError(f"environment {self.name} raised {type(error).__name__}: {error}") from error

    def _played(
        self, act: ActOn, seeds: Sequence[int], outcomes: Sequence[Measure]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        while len(self._copies) < min(_AT_ONCE, len(seeds)):
            self._copies.append(make_environment(self.name))
        returns, waiting = np.zeros(len(seeds)), iter(range(len(seeds)))
        tallies = np.zeros((len(seeds), 2 * len(outcomes)))
        running = [_Running(copy, self.spaces, self.limit) for copy in self._copies]
        running = [one for one in running if one.begin(waiting, seeds)]
        while running:
            obs = np.stack([one.obs for one in running])
            actions = act(obs)
            for one, action in zip(running, actions, strict=True):
                returns[one.place] += one.step(action)
            if outcomes:
                following = np.stack([one.obs for one in running])
                tallies[[one.place for one in running]] += tallied(outcomes, obs, actions, following, None)
            running = [one for one in running if not one.over or one.begin(waiting, seeds)]
        return returns, tallies


class _Running:
    """One of the episodes that run now. place: its seed's. obs: float32[D], what the next action is for."""

    def __init__(self, environment: gymnasium.Env[Any, Any], spaces: NumericSpaces, limit: int) -> None:
        self._environment = environment
        self._spaces = spaces
        self._limit = limit
        self._steps = self.place = 0
        self.over = False
        self.obs: NDArray[np.float32]

    def begin(self, waiting: Iterator[int], seeds: Sequence[int]) -> bool:
        """Begin the next episode that waits; whether there was one."""
        place = next(waiting, None)
        if place is None:
            return False
        self.place, self._steps, self.over = place, 0, False
        self.obs = self._spaces.flat(self._environment.reset(seed=int(seeds[place]))[0])
        return True

    def step(self, action: Any) -> float:  # noqa: ANN401 an int or a vector
        """Take a step; return its reward."""
        obs, reward, terminated, truncated, _ = self._environment.step(self._spaces.action(action))
        earned = float(reward)
        if not math.isfinite(earned):
            raise ValueError(f"the reward {earned} is no finite number")
        self.obs = self._spaces.flat(obs)
        self._steps += 1
        self.over = terminated or truncated or self._steps >= self._limit
        return earned
