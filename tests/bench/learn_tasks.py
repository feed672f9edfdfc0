"""Tasks unlike CloudService, for the benchmark of learning on the stream, and their rows as agents would send them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.spaces import NumericSpaces
from headrace.schemas.records import Bounds, TaskSpec
from headrace.schemas.transition import TransitionBatch

AGENTS = 20
START_MS = 1_767_225_600_000
Acted = tuple[np.ndarray, np.ndarray, int]
"""Actions, their log-probabilities and the version that acted."""


class TwoGoals(gymnasium.Env[np.ndarray, int]):
    """A grid of 7 x 7: from the middle a goal that pays 1 is 3 steps away, one that pays 5 is 6. 100 steps at most."""

    SIDE = 7

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin in the middle."""
        super().reset(seed=seed, options=options)
        self._place, self._steps = np.array([3, 3]), 0
        return self._seen(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Go up, down, left or right; walls stop."""
        move = np.array([(0, 1), (0, -1), (-1, 0), (1, 0)][int(action)])
        self._place, self._steps = np.clip(self._place + move, 0, self.SIDE - 1), self._steps + 1
        reward = {(0, 3): 1.0, (6, 6): 5.0}.get((int(self._place[0]), int(self._place[1])), 0.0)
        return self._seen(), reward, reward > 0.0, self._steps >= 100, {}

    def _seen(self) -> np.ndarray:
        return (self._place / (self.SIDE - 1)).astype(np.float32)


class Bandit(gymnasium.Env[np.ndarray, Any]):
    """One step: the reward is 20 less how far the action is from what is best in the middle of its range."""

    def __init__(self, high: float) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Box(0.0, high, (1,), np.float32)
        self._high = high

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """See something of no use."""
        super().reset(seed=seed, options=options)
        return self.np_random.uniform(-1, 1, 1).astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Best at .8 of the range: 20; 0 where it is half the range away."""
        distance = abs(float(np.asarray(action).reshape(-1)[0]) / self._high - 0.8)
        return np.zeros(1, np.float32), 20.0 - 40.0 * distance, True, False, {}


class Constant(gymnasium.Env[np.ndarray, int]):
    """A reward of 1 and an observation of 3, whatever is done; 50 steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-10.0, 10.0, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin."""
        super().reset(seed=seed, options=options)
        self._steps = 0
        return np.full(2, 3.0, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Nothing changes."""
        self._steps += 1
        return np.full(2, 3.0, np.float32), 1.0, False, self._steps >= 50, {}


@dataclass(frozen=True)
class Task:
    """An environment, what its rewards are multiplied by, and whether its rows are of a policy that is half good."""

    make: Callable[[], gymnasium.Env[Any, Any]]
    algorithms: tuple[str, ...] = ("dqn", "ppo")
    reward_scale: float = 1.0
    half_trained: bool = False


TASKS = {
    "cartpole": Task(lambda: gymnasium.make("CartPole-v1")),
    "cartpole_half": Task(lambda: gymnasium.make("CartPole-v1"), half_trained=True),
    "cartpole_1e6": Task(lambda: gymnasium.make("CartPole-v1"), reward_scale=1e6),
    "acrobot": Task(lambda: gymnasium.make("Acrobot-v1")),
    "gridworld": Task(TwoGoals),
    "gridworld_1e-3": Task(TwoGoals, reward_scale=1e-3),
    "mountaincar": Task(lambda: gymnasium.make("MountainCar-v0")),
    "lunarlander": Task(lambda: gymnasium.make("LunarLander-v3")),
    "pendulum": Task(lambda: gymnasium.make("Pendulum-v1"), algorithms=("ppo",)),
    "bandit_1": Task(lambda: Bandit(1.0), algorithms=("ppo",)),
    "bandit_100": Task(lambda: Bandit(100.0), algorithms=("ppo",)),
    "constant": Task(Constant),
}


def spec_of(name: str) -> TaskSpec:
    """The task as `headrace task add` would have it."""
    environment = TASKS[name].make()
    numeric = NumericSpaces(environment.observation_space, environment.action_space)
    actions = tuple(f"a{i}" for i in range(numeric.actions))
    box = None if numeric.bounds is None else Bounds(*(tuple(row) for row in numeric.bounds.tolist()))
    return TaskSpec(
        task=name, observations=tuple(f"o{i}" for i in range(numeric.width)), actions=box or actions, window_ms=60_000
    )


class Agents:
    """Agents of one task, and their rows window by window."""

    def __init__(self, name: str, seed: int) -> None:
        self.task, self.name = TASKS[name], name
        self._environments = [self.task.make() for _ in range(AGENTS)]
        first = self._environments[0]
        self.spaces = NumericSpaces(first.observation_space, first.action_space)
        begun = [environment.reset(seed=seed * AGENTS + i) for i, environment in enumerate(self._environments)]
        self._obs = np.stack([self.spaces.flat(obs) for obs, _ in begun])
        self._episode, self._step = np.zeros(AGENTS, np.int64), np.zeros(AGENTS, np.int64)
        self._ticks = 0
        self.rng = np.random.default_rng(seed)

    def uniform(self, obs: np.ndarray) -> Acted:
        """Act at random."""
        count, bounds = len(obs), self.spaces.bounds
        if bounds is None:
            return self.rng.integers(self.spaces.actions, size=count), np.full(count, -np.log(self.spaces.actions)), -1
        action = self.rng.uniform(bounds[0], bounds[1], (count, self.spaces.actions)).astype(np.float32)
        return action, np.full(count, -np.log(bounds[1] - bounds[0]).sum()), -1

    def half(self, obs: np.ndarray) -> Acted:
        """Push CartPole's cart to where the pole falls, half of the time; else at random."""
        good = (obs[:, 2] + obs[:, 3] > 0).astype(np.int64)
        action = np.where(self.rng.random(len(obs)) < 0.5, good, self.rng.integers(2, size=len(obs)))
        return action, np.log(np.where(action == good, 0.75, 0.25)), -1

    def window(self, rows: int, act: Callable[[np.ndarray], Acted]) -> TransitionBatch:
        """Let all agents take `rows / AGENTS` steps."""
        columns = [self._tick(act) for _ in range(rows // AGENTS)]
        names = tuple(f"e{i}" for i in range(int(self._episode.max()) + 1))
        stacked = {key: np.concatenate([column[key] for column in columns]) for key in columns[0]}
        return TransitionBatch(task=self.name, agents=tuple(f"a{i}" for i in range(AGENTS)), episodes=names, **stacked)

    def _tick(self, act: Callable[[np.ndarray], Acted]) -> dict[str, np.ndarray]:
        obs, (action, log_prob, version) = self._obs, act(self._obs)
        after = [
            environment.step(self.spaces.action(number))
            for environment, number in zip(self._environments, action, strict=True)
        ]
        next_obs = np.stack([self.spaces.flat(one[0]) for one in after])
        reward, terminated, truncated = (np.array([one[i] for one in after]) for i in (1, 2, 3))
        discrete = self.spaces.bounds is None
        row = {
            "agent": np.arange(AGENTS, dtype=np.int32),
            "episode": self._episode.astype(np.int32),
            "step": self._step.copy(),
            "ts": np.full(AGENTS, START_MS + self._ticks * 1_000),
            "offset": np.full(AGENTS, self._ticks),
            "obs": obs,
            "action": action.astype(np.int32 if discrete else np.float32),
            "reward": (reward * self.task.reward_scale).astype(np.float32),
            "next_obs": next_obs,
            "terminated": terminated.astype(np.bool_),
            "truncated": truncated.astype(np.bool_) & ~terminated.astype(np.bool_),
            "reward_terms": np.zeros((AGENTS, 0), np.float32),
            "policy_version": np.full(AGENTS, version),
            "log_prob": log_prob.astype(np.float32),
        }
        self._ticks, self._obs = self._ticks + 1, next_obs.copy()
        self._step += 1
        for i in np.flatnonzero(terminated | truncated):
            self._obs[i] = self.spaces.flat(self._environments[i].reset()[0])
            self._episode[i], self._step[i] = self._episode[i] + 1, 0
        return row


def returns_of(
    name: str, policy: Policy | BoxPolicy | None, episodes: int, seed: int, *, drawn: bool = False
) -> np.ndarray:
    """Returns of whole episodes, float64[episodes], in the environment's own rewards; None for random play."""
    agents = Agents(name, seed)
    environment = TASKS[name].make()
    return np.array(
        [sum(_rewards(environment, agents, policy, seed * 10_000 + episode, drawn)) for episode in range(episodes)]
    )


def _rewards(
    environment: gymnasium.Env[Any, Any], agents: Agents, policy: Policy | BoxPolicy | None, seed: int, drawn: bool
) -> Iterator[float]:
    obs, done = environment.reset(seed=seed)[0], False
    while not done:
        seen = agents.spaces.flat(obs)
        if policy is None:
            number = agents.uniform(seen[None])[0][0]
        elif drawn:
            number = policy.sample(seen[None], agents.rng)[0][0]
        else:
            number = policy.decide(seen)
        if isinstance(policy, BoxPolicy):
            number = policy.cut(number)
        obs, reward, terminated, truncated, _ = environment.step(agents.spaces.action(number))
        done = terminated or truncated
        yield float(reward)
