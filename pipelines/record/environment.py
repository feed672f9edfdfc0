"""One line turns any Gymnasium environment's steps into transitions on a log.

    env = record(gymnasium.make("CartPole-v1"), task="cartpole")

Use the environment as before, and close it. `env.policy_version = 3` goes with each step from then on;
`env.log_prob = -0.7` goes with the next step only, so set it before each; `follow(task, env=env)` of `pipelines.act`
says both by itself. The log must have been made by `headrace init`. Where the clock is the real one, the last windows
are still open when the environment is closed: a warning says until when, and what closes them.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import iterate
from numpy.typing import NDArray
from typing_extensions import override

from headrace.learners.spaces import NumericSpaces
from headrace.pipelines.record.task import derive_task, known_task, made_again_by
from headrace.pipelines.record.writer import RecordedStep, Writer
from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services, system_clock
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Clock, Log
from headrace.schemas.transition import NO_POLICY_VERSION

Acted = Callable[[Any], tuple[int | None, Any]]
"""Gives (policy_version, log_prob) for a step's action: an agent of `pipelines.act` that chose it knows them."""


@dataclass(slots=True)
class _Agent:
    """Where an agent is: its observation before the next step (None: it must be reset first)."""

    episode: int = -1
    step: int = 0
    obs: NDArray[np.float32] | None = None

    def begin(self, obs: NDArray[np.float32]) -> None:
        self.episode, self.step, self.obs = self.episode + 1, 0, obs


class _Tape:
    """Both wrappers' common part: spaces as numbers, agents' places, open services."""

    def __init__(self, writer: Writer, numbers: NumericSpaces, stack: ExitStack) -> None:
        self.agents = [_Agent() for _ in writer.agents]
        self.writer = writer
        self.numbers = numbers
        self._stack = stack
        # An episode's name must not come again, or its steps are taken for repeated ones: the start is part of it.
        self._run = writer.clock()

    def write(
        self,
        index: int,
        action: Any,  # noqa: ANN401 as the environment's space has it
        outcome: tuple[float, NDArray[np.float32], bool, bool],
        info: dict[str, Any],
        acted: tuple[int | None, float | None],
    ) -> None:
        """Write an agent's step, and move it on."""
        agent = self.agents[index]
        reward, next_obs, terminated, truncated = outcome
        assert agent.obs is not None
        step = RecordedStep(
            agent=index,
            episode=f"{self._run}-{agent.episode}",
            step=agent.step,
            ts=self.writer.clock(),
            obs=agent.obs,
            action=self.numbers.number(action),
            reward=reward,
            next_obs=next_obs,
            terminated=terminated,
            truncated=truncated,
            reward_terms=tuple(float(info.get(name, np.nan)) for name in self.writer.spec.reward_terms),
            policy_version=NO_POLICY_VERSION if acted[0] is None else acted[0],
            log_prob=np.nan if acted[1] is None else acted[1],
        )
        self.writer.add(step)
        agent.step += 1
        agent.obs = None if terminated or truncated else next_obs

    def close(self) -> None:
        """Send the rest, and close what was opened."""
        with self._stack:
            self.writer.close()


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose steps are transitions on a log. Made by `record`."""

    def __init__(self, env: gym.Env[Any, Any], tape: _Tape) -> None:
        super().__init__(env)
        self.policy_version: int | None = None
        self.log_prob: float | None = None
        self.acted: Acted | None = None
        self._tape = tape

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and begin an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._tape.agents[0].begin(self._tape.numbers.flat(obs))
        return obs, info

    @override
    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and record it."""
        if self.acted is not None:
            self.policy_version, self.log_prob = self.acted(action)
        obs, reward, terminated, truncated, info = self.env.step(action)
        if self._tape.agents[0].obs is not None:  # else the environment allows steps after an end; they mean nothing
            outcome = (float(reward), self._tape.numbers.flat(obs), bool(terminated), bool(truncated))
            self._tape.write(0, action, outcome, info, (self.policy_version, self.log_prob))
        self.log_prob = None
        return obs, reward, terminated, truncated, info

    @override
    def close(self) -> None:
        """Send the rest and a heartbeat to each partition, then close the environment."""
        self._tape.close()
        super().close()


class VectorRecorder(VectorWrapper[Any, Any, Any]):
    """As Recorder, for N environments at once: N agents. The rows of an autoreset are no steps and are left out."""

    def __init__(self, env: VectorEnv[Any, Any, Any], tape: _Tape) -> None:
        super().__init__(env)
        self.policy_version: int | None = None
        self.log_prob: NDArray[np.float32] | None = None
        self.acted: Acted | None = None
        self._tape = tape

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and begin an episode each."""
        obs, info = self.env.reset(seed=seed, options=options)
        for agent, row in zip(self._tape.agents, iterate(self.env.observation_space, obs), strict=True):
            agent.begin(self._tape.numbers.flat(row))
        return obs, info

    @override
    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and record what was one."""
        if self.acted is not None:
            self.policy_version, self.log_prob = self.acted(actions)
        obs, rewards, terminated, truncated, info = self.env.step(actions)
        rows = zip(iterate(self.env.action_space, actions), iterate(self.env.observation_space, obs), strict=True)
        for i, (action, row) in enumerate(rows):
            flat = self._tape.numbers.flat(row)
            if self._tape.agents[i].obs is None:
                self._tape.agents[i].begin(flat)
                continue
            outcome = (float(rewards[i]), flat, bool(terminated[i]), bool(truncated[i]))
            told = {name: info[name][i] for name in self._tape.writer.spec.reward_terms if name in info}
            log_prob = None if self.log_prob is None else float(self.log_prob[i])
            self._tape.write(i, action, outcome, told, (self.policy_version, log_prob))
        self.log_prob = None
        return obs, rewards, terminated, truncated, info

    @override
    def close(self, **kwargs: Any) -> None:
        """Send the rest and a heartbeat to each partition, then close the environments."""
        self._tape.close()
        super().close(**kwargs)


def record(
    env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any],
    *,
    task: str,
    log: str | Log | None = None,
    agent_id: str = "agent",
    observations: Sequence[str] = (),
    actions: Sequence[str] = (),
    reward_terms: Sequence[str] = (),
    window_ms: int = 10_000,
    grace_ms: int = 5_000,
    batch: int = 256,
    clock: Clock = system_clock,
) -> Recorder | VectorRecorder:
    """Wrap an environment so that its steps are sent to a log.

    task: its name; if the log does not know it yet, its spec is derived from the spaces and added. It names the
    environment as the task's simulator where its id makes it again. log: a URL or an
    open log; None: HEADRACE_LOG, else ./.headrace. agent_id: of a vector environment's agents -0, -1, ... are
    added. observations, actions: names, else x0, x1, ... and 0, 1, ... reward_terms: keys of `info` that hold the
    reward's parts. clock: gives the steps' event time, ms.

    Raises SettingsError for spaces that are no numbers, InvalidTaskError where the known task is of another shape.
    """
    if isinstance(env, VectorEnv) and env.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
        raise SettingsError(
            f"task {task}: only vector environments with autoreset_mode NEXT_STEP can be recorded, this one has "
            f"{env.metadata.get('autoreset_mode')}: make it by gymnasium.make_vec(..., "
            "vector_kwargs={'autoreset_mode': gymnasium.vector.AutoresetMode.NEXT_STEP})"
        )
    if isinstance(env, VectorEnv):
        numbers = NumericSpaces(env.single_observation_space, env.single_action_space)
        agents = tuple(f"{agent_id}-{i}" for i in range(env.num_envs))
    else:
        numbers, agents = NumericSpaces(env.observation_space, env.action_space), (agent_id,)
    derived = derive_task(task, numbers, observations, actions, reward_terms, window_ms, made_again_by(env))
    with ExitStack() as stack:
        opened = _opened(log, stack)
        writer = Writer(opened, known_task(opened, derived), agents, clock, batch, grace_ms)
        tape = _Tape(writer, numbers, stack.pop_all())
    return VectorRecorder(env, tape) if isinstance(env, VectorEnv) else Recorder(env, tape)


def _opened(log: str | Log | None, stack: ExitStack) -> Log:
    if log is None or isinstance(log, str):
        return stack.enter_context(open_services(read_settings({"log": log}))).log
    return log
