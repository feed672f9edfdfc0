"""Gymnasium's environments, and their spaces as numbers: an action is one choice or a vector."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import msgspec
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from headrace.schemas.errors import EnvironmentFailedError, SettingsError
from headrace.schemas.records.task import NO_BOUND


def make_environment(name: str) -> gymnasium.Env[Any, Any]:
    """Return a Gymnasium environment by its id, behind which may stand what it is made with: `Taxi-v4{"rainy": true}`.

    Raises EnvironmentFailedError.
    """
    identity, brace, kwargs = name.partition("{")
    try:
        asked = msgspec.json.decode(brace + kwargs, type=dict[str, Any]) if brace else {}
        return gymnasium.make(identity, **{"disable_env_checker": True} | asked)
    except (Exception, SystemExit) as error:
        raise EnvironmentFailedError(f"environment {name!r} can't be made: {error}") from error


def varied(name: str, changes: Mapping[str, object]) -> str:
    """Return the id, as `make_environment` reads it, of an environment that is made with these things besides."""
    identity, brace, kwargs = name.partition("{")
    asked = msgspec.json.decode(brace + kwargs, type=dict[str, Any]) if brace else {}
    return identity + msgspec.json.encode(asked | dict(changes)).decode()


class NumericSpaces:
    """An environment's observations as float32[D] (discrete ones one-hot), its actions as 0 to A - 1 or float32[A].

    width is D, actions is A. bounds: float32[2, A], the lowest and the highest, infinite where there is none; None
    where an action is one choice. Raises SettingsError for spaces that are no such numbers.
    """

    def __init__(self, observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
        self._observation = observation
        self._action = action
        self.width = _width(observation)
        self.bounds: NDArray[np.float32] | None = None
        if isinstance(action, spaces.Discrete):
            self.actions = int(action.n)
            return
        if not isinstance(action, spaces.Box):
            raise SettingsError(
                f"actions of {action} are neither one choice (Discrete) nor a vector (Box): wrap the environment by "
                "gymnasium.wrappers.TransformAction"
            )
        bounds = np.stack([action.low.reshape(-1), action.high.reshape(-1)]).astype(np.float32)
        self.bounds = np.where(np.abs(bounds) < NO_BOUND, bounds, np.copysign(np.float32(np.inf), bounds))
        self.actions = self.bounds.shape[1]

    @property
    def first_action(self) -> int:
        """What the environment calls the first choice."""
        return int(self._action.start) if isinstance(self._action, spaces.Discrete) else 0

    def flat(self, obs: object) -> NDArray[np.float32]:
        """Return an observation as float32[D]."""
        with np.errstate(over="ignore"):
            return np.asarray(spaces.flatten(self._observation, obs)).astype(np.float32)

    def number(self, action: Any) -> Any:  # noqa: ANN401 as the space has it
        """Return one of the environment's actions as an int from 0 on or as float32[A]."""
        if self.bounds is None:
            return int(action) - self.first_action
        return np.asarray(action, np.float32).reshape(-1)

    def action(self, number: Any) -> Any:  # noqa: ANN401 as the space has it
        """Return the environment's action for an int from 0 on or float32[A]."""
        if self.bounds is None:
            return int(number) + self.first_action
        return np.asarray(number, self._action.dtype).reshape(self._action.shape)


def _width(space: spaces.Space[Any]) -> int:
    try:
        return int(spaces.flatdim(space))
    except (ValueError, NotImplementedError) as error:
        raise SettingsError(
            f"observations of {space} have no fixed width: wrap the environment by "
            "gymnasium.wrappers.TransformObservation"
        ) from error
