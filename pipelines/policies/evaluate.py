"""How a policy or a baseline does in an environment: greedy, on traces that the seed and their number fix."""

import re

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Policy, load_policy
from headrace.learners.explain.simulation import greedy
from headrace.learners.simulate.environments import environment_of
from headrace.learners.simulate.gymnasium_simulator import GymnasiumSimulator
from headrace.schemas.errors import CorruptDataError, SettingsError


def task_of(environment: str) -> str:
    """The task that an environment's policies are stored under, unless another is named."""
    own = environment_of(environment)
    if own is not None:
        return own.task
    name = re.sub(r"-v\d+$", "", re.split("[/:]", environment.partition("{")[0])[-1]).lower()
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
    played = GymnasiumSimulator(environment, traces, seed)
    found = played.spaces
    _require_fit(policy, environment, (found.width, found.actions), continuous=found.bounds is not None)
    return played.outcomes(policy).returns


def evaluated_baseline(name: str, environment: str, traces: int, seed: int) -> NDArray[np.float64]:
    """Unscaled returns float64[N] of a rule; raises SettingsError where there is none of that name."""
    own = environment_of(environment)
    if own is None:
        return GymnasiumSimulator(environment, traces, seed).baseline(name).returns
    if name not in own.baselines:
        raise SettingsError(f"baseline {name!r} is unknown; {environment} has {', '.join(own.baselines)}")
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
