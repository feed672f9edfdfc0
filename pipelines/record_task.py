"""The task that an environment's spaces stand for."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from gymnasium import spaces

from headrace.pipelines.core.tasks import TaskTable, add_task, task_specs
from headrace.schemas.errors import InvalidTaskError, SettingsError
from headrace.schemas.ports import Log
from headrace.schemas.records import Bounds, Layout, TaskSpec, task_problem

_LARGEST: Final = float(np.finfo(np.float32).max)


def known_task(log: Log, derived: TaskSpec) -> TaskSpec:
    """Return the log's task of that name if it has the same shape; add the derived one if there is none."""
    present = task_specs(log).get(derived.task)
    if present is None:
        add_task(log, TaskTable(log, Layout(log="")), derived)
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
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    observations: Sequence[str] = (),
    actions: Sequence[str] = (),
    reward_terms: Sequence[str] = (),
    window_ms: int = 10_000,
) -> TaskSpec:
    """Make a TaskSpec of spaces: observations are flattened (discrete ones one-hot).

    Raises SettingsError for a space that has no fixed width, InvalidTaskError for names that don't fit.
    """
    try:
        width = spaces.flatdim(observation_space)
    except (ValueError, NotImplementedError) as error:
        raise SettingsError(
            f"task {task}: observations of {observation_space} have no fixed width: wrap the environment by "
            "gymnasium.wrappers.TransformObservation"
        ) from error
    names = tuple(observations) or tuple(f"x{i}" for i in range(width))
    spec = TaskSpec(
        task=task,
        observations=names,
        actions=_actions(task, action_space, tuple(actions)),
        window_ms=window_ms,
        reward_terms=tuple(reward_terms),
    )
    problem = task_problem(spec)
    if len(names) != width:
        problem = f"{len(names)} names of observations; the space has {width}"
    if problem:
        raise InvalidTaskError(f"task {task}: {problem}")
    return spec


def _actions(task: str, space: spaces.Space[Any], names: tuple[str, ...]) -> tuple[str, ...] | Bounds:
    if isinstance(space, spaces.Discrete):
        if names and len(names) != space.n:
            raise InvalidTaskError(f"task {task}: {len(names)} names of actions; the space has {space.n}")
        return names or tuple(str(space.start + i) for i in range(int(space.n)))
    if isinstance(space, spaces.Box):
        low, high = (np.clip(bound.reshape(-1), -_LARGEST, _LARGEST).tolist() for bound in (space.low, space.high))
        return Bounds(tuple(low), tuple(high))
    raise SettingsError(
        f"task {task}: actions of {space} are neither one choice (Discrete) nor a vector (Box): wrap the environment "
        "by gymnasium.wrappers.TransformAction"
    )
