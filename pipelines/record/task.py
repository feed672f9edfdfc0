"""The task that an environment's spaces stand for."""

import json
from collections.abc import Sequence
from typing import Any, Final

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from headrace.learners.spaces import NumericSpaces
from headrace.pipelines.tasks import add_task, task_specs
from headrace.schemas.errors import InvalidTaskError
from headrace.schemas.ports import Log
from headrace.schemas.records import Bounds, TaskSpec, task_problem

_OF_THE_MAKING: Final = {"render_mode", "num_envs", "vectorization_mode", "max_episode_steps"}
"""What says how an environment is shown, or how many there are, or stands in its spec beside."""
_SAME_TASK: Final = {"FlattenObservation", "HumanRendering", "RecordEpisodeStatistics", "RecordVideo"}
"""Gymnasium's wrappers that leave a task what it is, once observations are flattened."""
_LARGEST: Final = float(np.finfo(np.float32).max)


def known_task(log: Log, derived: TaskSpec) -> TaskSpec:
    """Return the log's task of that name if it has the same shape; add the derived one if there is none."""
    present = task_specs(log).get(derived.task)
    if present is None:
        add_task(log, derived)
        return derived
    shape = (present.width, present.discrete, present.action_count)
    if shape != (derived.width, derived.discrete, derived.action_count):
        raise InvalidTaskError(
            f"task {derived.task} has {present.width} observations and {present.action_count} actions, the "
            f"environment {derived.width} and {derived.action_count}: give it another task name"
        )
    return present


def derive_task(
    task: str,
    numbers: NumericSpaces,
    observations: Sequence[str] = (),
    actions: Sequence[str] = (),
    reward_terms: Sequence[str] = (),
    window_ms: int = 10_000,
    environment: tuple[str | None, dict[str, Any]] = (None, {}),
) -> TaskSpec:
    """Make a TaskSpec of spaces; environment: its id and what it is made with.

    Raises InvalidTaskError for names that don't fit.
    """
    names = tuple(observations) or tuple(f"x{i}" for i in range(numbers.width))
    spec = TaskSpec(
        task=task,
        observations=names,
        actions=_actions(task, numbers, tuple(actions)),
        window_ms=window_ms,
        reward_terms=tuple(reward_terms),
        environment=environment[0],
        environment_kwargs=environment[1],
    )
    problem = task_problem(spec)
    if len(names) != numbers.width:
        problem = f"{len(names)} names of observations; the space has {numbers.width}"
    if problem:
        raise InvalidTaskError(f"task {task}: {problem}")
    return spec


def made_again_by(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the id that makes an environment again, and with what; (None, {}) where no id does.

    None does for one that was never registered, or only by a script, for one that is wrapped beyond what its id does,
    and for one that was made with what is no JSON. Of one that is registered outside of Gymnasium the id begins with
    the module that has it, which must register it when it is imported.
    """
    spec = env.spec
    if spec is None or not isinstance(spec.entry_point, str) or isinstance(env, VectorWrapper):
        return None, {}
    module, wrappers = spec.entry_point.partition(":")[0], {one.name for one in spec.additional_wrappers}
    if module == "__main__" or wrappers - _SAME_TASK:
        return None, {}
    kwargs = {name: value for name, value in spec.kwargs.items() if name not in _OF_THE_MAKING}
    registered = gym.registry.get(spec.id)
    if registered is None or registered.max_episode_steps != spec.max_episode_steps:
        kwargs["max_episode_steps"] = spec.max_episode_steps
    try:
        plain = json.loads(json.dumps(kwargs, allow_nan=False))
    except (TypeError, ValueError):
        return None, {}
    own = module.partition(".")[0] in {"gymnasium", "headrace"}
    return (spec.id if own else f"{module}:{spec.id}"), plain


def _actions(task: str, numbers: NumericSpaces, names: tuple[str, ...]) -> tuple[str, ...] | Bounds:
    if numbers.bounds is not None:
        low, high = np.clip(numbers.bounds, -_LARGEST, _LARGEST).tolist()
        return Bounds(tuple(low), tuple(high))
    if names and len(names) != numbers.actions:
        raise InvalidTaskError(f"task {task}: {len(names)} names of actions; the space has {numbers.actions}")
    return names or tuple(str(numbers.first_action + i) for i in range(numbers.actions))
