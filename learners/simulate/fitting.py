"""Whether a task's environment can be made here, and has the task's observations and actions."""

from functools import lru_cache
from typing import Final

import numpy as np

from headrace.learners.simulate.environments import environment_of
from headrace.learners.spaces import NumericSpaces, make_environment
from headrace.schemas.errors import EnvironmentFailedError, SettingsError
from headrace.schemas.records import Bounds, TaskSpec

_LARGEST: Final = float(np.finfo(np.float32).max)


def misfit(spec: TaskSpec) -> str | None:
    """Say why a task can't be simulated in the environment that it names; None where it can, or names none."""
    name = spec.environment_id
    if name is None:
        return None
    own = environment_of(name)
    if own is not None:
        return _misfit(spec, name, own.width, own.actions, None)
    try:
        spaces = _spaces(name)
    except (EnvironmentFailedError, SettingsError) as error:
        return str(error)
    return _misfit(spec, name, spaces.width, spaces.actions, spaces.bounds)


def _misfit(spec: TaskSpec, name: str, width: int, actions: int, bounds: np.ndarray | None) -> str | None:
    if width != spec.width:
        return f"environment {name} has {width} observations, the task names {spec.width}"
    kinds = {True: "discrete actions", False: "action dimensions"}
    if (actions, bounds is None) != (spec.action_count, spec.discrete):
        mine, theirs = kinds[bounds is None], kinds[spec.discrete]
        return f"environment {name} has {actions} {mine}, the task {spec.action_count} {theirs}"
    if bounds is None or not isinstance(spec.actions, Bounds):
        return None
    low, high = np.clip(bounds, -_LARGEST, _LARGEST)
    asked_low, asked_high = (np.array(side, np.float32) for side in (spec.actions.low, spec.actions.high))
    if (asked_low < low).any() or (asked_high > high).any():
        return f"environment {name} takes actions from {low.tolist()} to {high.tolist()}, the task's bounds are wider"
    return None


@lru_cache(maxsize=16)
def _spaces(name: str) -> NumericSpaces:
    """Make the environment, and try it: some of what it is made with may fail at the first reset only."""
    made = make_environment(name)
    spaces = NumericSpaces(made.observation_space, made.action_space)
    try:
        spaces.flat(made.reset(seed=0)[0])
    except (Exception, SystemExit) as error:
        raise EnvironmentFailedError(f"environment {name!r} can't be reset: {type(error).__name__}: {error}") from error
    finally:
        made.close()
    return spaces
