"""The task that an environment's spaces stand for."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from headrace.learners.spaces import NumericSpaces
from headrace.pipelines.tasks import add_task, task_specs
from headrace.schemas.errors import InvalidTaskError
from headrace.schemas.ports import Log
from headrace.schemas.records import Bounds, TaskSpec, task_problem

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
) -> TaskSpec:
    """Make a TaskSpec of spaces. Raises InvalidTaskError for names that don't fit."""
    names = tuple(observations) or tuple(f"x{i}" for i in range(numbers.width))
    spec = TaskSpec(
        task=task,
        observations=names,
        actions=_actions(task, numbers, tuple(actions)),
        window_ms=window_ms,
        reward_terms=tuple(reward_terms),
    )
    problem = task_problem(spec)
    if len(names) != numbers.width:
        problem = f"{len(names)} names of observations; the space has {numbers.width}"
    if problem:
        raise InvalidTaskError(f"task {task}: {problem}")
    return spec


def _actions(task: str, numbers: NumericSpaces, names: tuple[str, ...]) -> tuple[str, ...] | Bounds:
    if numbers.bounds is not None:
        low, high = np.clip(numbers.bounds, -_LARGEST, _LARGEST).tolist()
        return Bounds(tuple(low), tuple(high))
    if names and len(names) != numbers.actions:
        raise InvalidTaskError(f"task {task}: {len(names)} names of actions; the space has {numbers.actions}")
    return names or tuple(str(numbers.first_action + i) for i in range(numbers.actions))
