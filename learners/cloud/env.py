"""CloudService-v0 for Gymnasium: the vector environment, and the single one on the same core.

Both draw their traces from a seed at reset, so that a single environment equals row 0 of a vector
environment with the same seed.
"""

from typing import Any, Final

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from headrace.learners.cloud.plant import ACTION_NAMES, FEATURE_HIGH, FEATURE_LOW, FRAMES, REWARD_TERMS, Simulation
from headrace.learners.cloud.workload import EPISODE_STEPS, Traces, draw_traces

ENVIRONMENT_ID: Final = "headrace/CloudService-v0"
SEED_LIMIT: Final = 2**63 - 1

Observation = NDArray[np.float32]
Info = dict[str, Any]


def observation_space() -> "spaces.Box[np.float32]":
    """float32[32]: four frames of eight features, the oldest first."""
    low = np.tile(np.array(FEATURE_LOW, dtype=np.float32), FRAMES)
    high = np.tile(np.array(FEATURE_HIGH, dtype=np.float32), FRAMES)
    return spaces.Box(low, high, dtype=np.float32)


def _traces(generator: np.random.Generator, count: int, options: dict[str, Any] | None) -> Traces:
    """The traces given in options, else fresh ones from the environment's generator."""
    given = (options or {}).get("traces")
    if given is None:
        return draw_traces(int(generator.integers(SEED_LIMIT)), count, EPISODE_STEPS)
    if not isinstance(given, Traces):
        raise TypeError(f"options['traces'] is a {type(given).__name__}; give what draw_traces returns")
    if len(given) != count:
        raise ValueError(f"options['traces'] holds {len(given)} traces for {count} environments; use take()")
    return given


def _check_actions(actions: NDArray[np.int64], count: int) -> None:
    actions = np.asarray(actions)
    if actions.shape != (count,) or actions.min() < 0 or actions.max() >= len(ACTION_NAMES):
        raise ValueError(f"actions {actions!r}: give {count} integers from 0 to {len(ACTION_NAMES) - 1}")


def _info(simulation: Simulation, terms: NDArray[np.float64]) -> Info:
    """What plots need, as arrays of their own, one value an environment."""
    parts = {name: terms[:, column].copy() for column, name in enumerate(REWARD_TERMS)}
    return parts | {
        "ready": simulation.ready.copy(),
        "pending": simulation.pending.sum(axis=0),
        "load_rps": simulation.arrivals_rps.copy(),
        "p95_ms": simulation.latency_s * 1000.0,
        "queue": simulation.queue.copy(),
        "dropped": simulation.dropped.copy(),
    }


class CloudVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """N episodes in lockstep.

    Episodes are truncated after 100 steps and never terminate, so all end together. Autoreset is Gymnasium's
    default, NEXT_STEP: the step after a truncation ignores its actions, starts all episodes on fresh traces
    and returns their first observations with reward 0.

    `reset(options={"traces": traces})` runs on given traces (and on fresh ones after an autoreset).

    info: the reward's terms `throughput`, `latency`, `cost`, and `ready`, `pending` (replicas), `load_rps`,
    `p95_ms`, `queue` (requests), `dropped` (share): arrays of length N.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012 - as the base class has it

    def __init__(self, num_envs: int = 1) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs} must be at least 1")
        self.num_envs = num_envs
        self.single_observation_space = observation_space()
        self.single_action_space = spaces.Discrete(len(ACTION_NAMES))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._simulation: Simulation | None = None
        self._truncated = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Start N episodes, on options["traces"] if given."""
        super().reset(seed=seed)
        self._simulation = Simulation(_traces(self.np_random, self.num_envs, options))
        self._truncated = False
        return self._simulation.observation(), _info(self._simulation, np.zeros((self.num_envs, 3)))

    def step(self, actions: NDArray[np.int64]) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], Info]:
        """One step of all; the step after a truncation starts new episodes instead."""
        if self._simulation is None:
            raise gymnasium.error.ResetNeeded("CloudVectorEnv.step before reset: call reset() first")
        never = np.zeros(self.num_envs, dtype=np.bool_)
        _check_actions(actions, self.num_envs)
        if self._truncated:
            obs, info = self.reset()
            return obs, np.zeros(self.num_envs), never, never.copy(), info
        obs, reward, terms, self._truncated = self._simulation.step(actions)
        truncated = np.full(self.num_envs, self._truncated)
        return obs, reward, never, truncated, _info(self._simulation, terms)


class CloudEnv(gymnasium.Env[Observation, np.int64]):
    """One episode at a time: CloudVectorEnv's row 0, without autoreset."""

    metadata = {"render_modes": []}  # noqa: RUF012 - as the base class has it

    def __init__(self) -> None:
        self.observation_space = observation_space()
        self.action_space = spaces.Discrete(len(ACTION_NAMES))
        self._simulation: Simulation | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Start an episode, on options["traces"] (one trace) if given."""
        super().reset(seed=seed)
        self._simulation = Simulation(_traces(self.np_random, 1, options))
        return self._simulation.observation()[0], _scalars(_info(self._simulation, np.zeros((1, 3))))

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, Info]:
        """One step. Raises ResetNeeded before the first reset and after the last step."""
        if self._simulation is None or self._simulation.step_index >= self._simulation.steps:
            raise gymnasium.error.ResetNeeded("CloudEnv.step before reset or after the end: call reset() first")
        actions = np.array([action])
        _check_actions(actions, 1)
        obs, reward, terms, truncated = self._simulation.step(actions)
        return obs[0], float(reward[0]), False, truncated, _scalars(_info(self._simulation, terms))


def _scalars(info: Info) -> Info:
    return {name: values[0].item() for name, values in info.items()}
