"""An environment's observations and actions, as it has them, and an agent's, which are numbers."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import iterate
from numpy.typing import NDArray

from headrace.learners.spaces import NumericSpaces

Env = gym.Env[Any, Any] | VectorEnv[Any, Any, Any]


class Spaces:
    """How an environment's spaces, or those of each of N environments, become numbers and back.

    Raises SettingsError for spaces that are no numbers.
    """

    def __init__(self, env: Env) -> None:
        vector = isinstance(env, VectorEnv)
        observation = env.single_observation_space if isinstance(env, VectorEnv) else env.observation_space
        action = env.single_action_space if isinstance(env, VectorEnv) else env.action_space
        self.shape = NumericSpaces(observation, action)
        self._env = env
        self._each = env.observation_space if vector else None
        self._action = action
        self._flat = isinstance(observation, spaces.Box) and len(observation.shape) == 1
        first, box = self.shape.first_action, self.shape.bounds is not None
        self.plain = self._flat and (not first if not box else action.shape == (self.shape.actions,))

    def numbers(self, obs: Any) -> NDArray[np.floating]:  # noqa: ANN401 as the environment has it
        """Return float32[D], or float32[N, D] for the observations of N environments."""
        if self._flat:
            return np.asarray(obs)
        if self._each is None:
            return self.shape.flat(obs)
        return np.stack([self.shape.flat(row) for row in iterate(self._each, obs)])

    def actions(self, numbers: Any) -> Any:  # noqa: ANN401 as the environment has it
        """Return the environment's action, or N of them, for an agent's."""
        if self._each is None:
            return self.shape.action(numbers)
        if self.shape.bounds is None:
            return numbers + self.shape.first_action
        return np.asarray(numbers, self._action.dtype).reshape((-1, *(self._action.shape or ())))

    def tell_recorder(self, acted: Callable[[Any], tuple[int | None, Any]]) -> None:
        """Let the recorder, where one of the environment's wrappers is one, ask what acted, and how likely that was."""
        inner: Any = self._env
        while inner is not None:
            own = getattr(inner, "__dict__", {})
            if "acted" in own:
                inner.acted = acted
            inner = own.get("env")
