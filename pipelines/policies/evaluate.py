"""How a policy or a baseline does in an environment: greedy, on traces that the seed and their number fix."""

import re
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Policy, load_policy
from headrace.learners.explain.simulation import greedy
from headrace.learners.simulate.environments import ENVIRONMENTS, environment_of
from headrace.learners.spaces import NumericSpaces, make_environment
from headrace.schemas.errors import CorruptDataError, EnvironmentFailedError, SettingsError


def task_of(environment: str) -> str:
    """The task that an environment's policies are stored under, unless another is named."""
    own = environment_of(environment)
    if own is not None:
        return own.task
    name = re.sub(r"-v\d+$", "", environment.rsplit("/", 1)[-1]).lower()
    return re.sub(r"[^a-z0-9._-]", "-", name)


def evaluated(weights: bytes, environment: str, traces: int, seed: int) -> NDArray[np.float64]:
    """Unscaled returns float64[N] of a policy's greedy actions.

    Raises EnvironmentFailedError, SettingsError for a policy that doesn't fit, CorruptDataError for none at all.
    """
    try:
        policy = load_policy(weights)
    except ValueError as error:
        raise CorruptDataError(f"these weights are no policy: {error}") from error
    own = environment_of(environment)
    if own is not None:
        _require_fit(policy, environment, (own.width, own.actions), continuous=False)
        assert isinstance(policy, Policy)
        return own.returns(greedy(policy), traces, seed)
    return _episodes(policy, environment, traces, seed)


def evaluated_baseline(name: str, environment: str, traces: int, seed: int) -> NDArray[np.float64]:
    """Unscaled returns float64[N] of a rule; raises SettingsError where there is none of that name."""
    own = environment_of(environment)
    if own is None:
        raise SettingsError(f"baselines are of {', '.join(ENVIRONMENTS)} alone, not of {environment}: give --policy")
    if name not in own.baselines:
        raise SettingsError(f"baseline {name!r} is unknown; choose one of {', '.join(own.baselines)}")
    return own.returns(name, traces, seed)


def _require_fit(policy: Policy | BoxPolicy, environment: str, sizes: tuple[int, int], *, continuous: bool) -> None:
    found = (policy.observation_width, policy.actions)
    if found == sizes and isinstance(policy, BoxPolicy) == continuous:
        return
    kinds = {False: "discrete actions", True: "action dimensions"}
    raise SettingsError(
        f"the policy takes {found[0]} observations and has {found[1]} {kinds[isinstance(policy, BoxPolicy)]}; "
        f"{environment} has {sizes[0]} and {sizes[1]} {kinds[continuous]}: it was trained for another task"
    )


def _episodes(policy: Policy | BoxPolicy, environment: str, count: int, seed: int) -> NDArray[np.float64]:
    """One episode a seed, in an environment of Gymnasium's."""
    made = make_environment(environment)
    found = NumericSpaces(made.observation_space, made.action_space)
    _require_fit(policy, environment, (found.width, found.actions), continuous=found.bounds is not None)
    seeds = np.random.SeedSequence(seed).generate_state(count)
    try:
        return np.array([_episode(made, found, policy.decide, int(one)) for one in seeds])
    except Exception as error:
        raise EnvironmentFailedError(f"environment {environment} raised: {type(error).__name__}: {error}") from error
    finally:
        made.close()


def _episode(
    environment: gymnasium.Env[Any, Any], numbers: NumericSpaces, decide: Callable[[Any], Any], seed: int
) -> float:
    obs, _ = environment.reset(seed=seed)
    total, done = 0.0, False
    while not done:
        action = numbers.action(decide(numbers.flat(obs)))
        obs, reward, terminated, truncated, _ = environment.step(action)
        total += float(reward)
        done = terminated or truncated
    return total
