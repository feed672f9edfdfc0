"""The task that an environment's spaces stand for, and whether the one that is known is the same."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import gymnasium as gym
import msgspec
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray

from headrace.learners.spaces import NumericSpaces
from headrace.pipelines.tasks import add_task, task_specs
from headrace.schemas.errors import InvalidTaskError
from headrace.schemas.ports import Log
from headrace.schemas.reasons import looks_like_seconds
from headrace.schemas.records import Bounds, TaskSpec, task_problem

WINDOW_MS: Final = 10_000
_OF_THE_MAKING: Final = {"render_mode", "num_envs", "vectorization_mode", "vector_kwargs", "max_episode_steps"}
"""What says how an environment is shown, or how many there are, or stands in its spec beside."""
_SAME_TASK: Final = {"FlattenObservation", "HumanRendering", "RecordEpisodeStatistics", "RecordVideo"}
"""Gymnasium's wrappers that leave a task what it is, once observations are flattened."""
_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller wants of a task beside the spaces; empty or None: nothing.

    start_ms: where its clock stands. reach: what the environment says its observations lie in.
    """

    observations: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    reward_terms: tuple[str, ...] = ()
    window_ms: int | None = None
    start_ms: int | None = None
    reach: Bounds | None = None


def known_task(log: Log, derived: TaskSpec, asked: Asked) -> TaskSpec:
    """Return the log's task of that name; add the derived one if there is none.

    Raises InvalidTaskError where the log's is another than the derived one, or than what is asked for.
    """
    present = task_specs(log).get(derived.task)
    if present is None:
        if asked.start_ms is not None and looks_like_seconds(asked.start_ms):
            raise InvalidTaskError(f"task {derived.task}: the clock gives seconds, {asked.start_ms}; give milliseconds")
        add_task(log, derived)
        return derived
    other = "; ".join(_differences(present, derived, asked))
    if other:
        raise InvalidTaskError(
            f"task {derived.task} is known, and is another than asked for here: {other}. Ask for the same, or give it "
            "another task name"
        )
    return present


def _differences(present: TaskSpec, derived: TaskSpec, asked: Asked) -> Iterator[str]:
    """Say how the log's task is another. Names that nobody chose (x0, 0, ...) agree with any that somebody did."""
    shape = (present.width, present.discrete, present.action_count)
    if shape != (derived.width, derived.discrete, derived.action_count):
        yield (
            f"it has {present.width} observations and {present.action_count} {_kind(present)}, the environment "
            f"{derived.width} and {derived.action_count} {_kind(derived)}"
        )
        return
    if asked.observations and present.observations != asked.observations:
        yield f"its observations are {_listed(present.observations)}, not {_listed(asked.observations)}"
    one, other = present.actions, derived.actions
    if isinstance(one, Bounds) and isinstance(other, Bounds) and not np.array_equal(_limits(one), _limits(other)):
        yield f"its actions' bounds are {_shown(one)}, the environment's {_shown(other)}"
    chosen = bool(asked.actions) or (isinstance(one, tuple) and _numbered(one))
    if isinstance(one, tuple) and isinstance(other, tuple) and chosen and one != other:
        yield f"its actions are {_listed(one)}, not {_listed(other)}"
    if present.bounds and asked.reach and _beyond(_limits(asked.reach), _limits(present.bounds)):
        yield f"its observations' bounds are {_shown(present.bounds)}, the environment's {_shown(asked.reach)}"
    terms = tuple(name for name in asked.reward_terms if name not in present.reward_terms)
    if terms:
        yield f"it has no reward terms {_listed(terms)}"
    if asked.window_ms is not None and asked.window_ms != present.window_ms:
        yield f"its windows are of {present.window_ms} ms, not {asked.window_ms}"
    if asked.start_ms is not None and asked.start_ms < present.oldest_ms:
        yield f"its oldest_ms is {present.oldest_ms}, and the clock is at {asked.start_ms}"


def _kind(spec: TaskSpec) -> str:
    return "actions" if spec.discrete else "dimensions of action"


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names))[:200]


def _shown(bounds: Bounds) -> str:
    return f"{_listed(bounds.low)} to {_listed(bounds.high)}"


def _limits(bounds: Bounds) -> NDArray[np.float32]:
    """Return float32[2, A]: a task file's .1 and a space's are the same."""
    return np.clip(np.array([bounds.low, bounds.high], np.float64), -_LARGEST, _LARGEST).astype(np.float32)


def _beyond(reach: NDArray[np.float32], bounds: NDArray[np.float32]) -> bool:
    """Whether the environment's own bounds lie outside of others; a side that it does not bound says nothing."""
    beyond = np.stack([reach[0] < bounds[0], reach[1] > bounds[1]])
    return bool((beyond & (np.abs(reach) < _LARGEST)).any())


def _numbered(names: Sequence[str]) -> bool:
    """Whether actions have the names of `derive_task`: what the environment calls them."""
    return all(re.fullmatch(r"-?\d+", name) for name in names)


def derive_task(
    task: str, numbers: NumericSpaces, asked: Asked, environment: tuple[str | None, dict[str, Any]] = (None, {})
) -> TaskSpec:
    """Make a TaskSpec of spaces; environment: its id and what it is made with.

    Raises InvalidTaskError for names that don't fit.
    """
    names = asked.observations or tuple(f"x{i}" for i in range(numbers.width))
    spec = TaskSpec(
        task=task,
        observations=names,
        actions=_actions(task, numbers, asked.actions),
        window_ms=WINDOW_MS if asked.window_ms is None else asked.window_ms,
        reward_terms=asked.reward_terms,
        environment=environment[0],
        environment_kwargs=environment[1],
    )
    if asked.start_ms is not None and asked.start_ms < spec.oldest_ms:
        spec = msgspec.structs.replace(spec, oldest_ms=0)  # a virtual clock, which began at 0
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
