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
from functools import partial
from typing import Any, Final
from weakref import finalize

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import iterate
from numpy.typing import NDArray
from typing_extensions import override

from headrace.learners.spaces import NumericSpaces
from headrace.pipelines.record.task import Asked, derive_task, known_task, made_again_by
from headrace.pipelines.record.writer import RecordedStep, Writer
from headrace.pipelines.settings import read_settings
from headrace.pipelines.topics import TRANSITIONS
from headrace.pipelines.wiring import open_services, system_clock
from headrace.schemas.errors import EnvironmentFailedError, HeadraceError, SettingsError
from headrace.schemas.ports import Clock, Log
from headrace.schemas.records import Bounds
from headrace.schemas.transition import NO_POLICY_VERSION

_ACTION_LIMIT: Final = 2**31
"""Of an int32, as transitions have choices."""

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
    """Both wrappers' common part: spaces as numbers, agents' places, open services. run: part of episodes' names."""

    def __init__(self, writer: Writer, numbers: NumericSpaces, run: str, stack: ExitStack) -> None:
        self.agents = [_Agent() for _ in writer.agents]
        self.writer = writer
        self.numbers = numbers
        # What is not closed is closed when nobody has it any more, or the process ends: no step is lost.
        self.close = finalize(self, _close, writer, stack)
        self._run = run

    def write(
        self,
        index: int,
        action: Any,  # noqa: ANN401 as `number` gives it
        outcome: tuple[float, NDArray[np.float32], bool, bool],
        told: Callable[[str], Any],
        acted: tuple[int | None, float | None],
    ) -> None:
        """Write an agent's step, and move it on. told: gives a reward term, None where it was not told."""
        agent = self.agents[index]
        reward, next_obs, terminated, truncated = outcome
        assert agent.obs is not None
        step = RecordedStep(
            agent=index,
            episode=f"{self._run}-{agent.episode}",
            step=agent.step,
            ts=self.writer.clock(),
            obs=agent.obs,
            action=action,
            reward=reward,
            next_obs=next_obs,
            terminated=terminated,
            truncated=truncated,
            reward_terms=tuple(_number(told(name)) for name in self.writer.spec.reward_terms),
            policy_version=NO_POLICY_VERSION if acted[0] is None else int(acted[0]),
            log_prob=_number(acted[1]),
        )
        self.writer.add(step)
        agent.step += 1
        agent.obs = None if terminated or truncated else next_obs

    def number(self, action: Any) -> Any:  # noqa: ANN401 as the space has it
        """Return an action as it is recorded: taken before the step, which may write into what it is given.

        Raises SettingsError where no transition can hold it.
        """
        number = self.numbers.number(action)
        fits = number.size == self.numbers.actions if isinstance(number, np.ndarray) else abs(number) < _ACTION_LIMIT
        if not fits:
            raise SettingsError(
                f"task {self.writer.spec.task}: the action {action!r} can't be recorded; the space has "
                f"{self.numbers.actions} {'choices' if self.numbers.bounds is None else 'numbers an action'}"
            )
        return number.copy() if isinstance(number, np.ndarray) else number

    def flat(self, index: int, obs: object, *, reset: bool = False) -> NDArray[np.float32]:
        """Return an agent's observation as float32[D], before anything of its step is kept.

        Raises EnvironmentFailedError where it is other than the space says; the agents then begin an episode anew.
        """
        agent, expected = self.agents[index], self.numbers.width
        try:
            flat = self.numbers.flat(obs)
            problem = "" if flat.shape == (expected,) else f"has {flat.size} numbers; the space has {expected}"
        except Exception as error:  # noqa: BLE001 a space may raise anything of what is not in it
            problem = f"is not of the space, whose width is {expected}: {type(error).__name__}: {error}"
        if problem:
            for one in self.agents:
                one.obs = None  # or the next step would be told from before this one
            raise EnvironmentFailedError(
                f"task {self.writer.spec.task}, agent {self.writer.agents[index]}: the observation that "
                f"{'reset' if reset else f'step {agent.step}'} gave {problem}. What was recorded before is kept: "
                "correct the environment or its observation_space"
            )
        return flat


def _close(writer: Writer, stack: ExitStack) -> None:
    """Send the rest, and close what was opened."""
    with stack:
        writer.close()


def _number(value: Any) -> float | None:  # noqa: ANN401 as the environment gives it
    return None if value is None else float(value)


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
        self._tape.agents[0].begin(self._tape.flat(0, obs, reset=True))
        return obs, info

    @override
    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and record it."""
        if self.acted is not None:
            self.policy_version, self.log_prob = self.acted(action)
        number = self._tape.number(action)
        obs, reward, terminated, truncated, info = self.env.step(action)
        if self._tape.agents[0].obs is not None:  # else the environment allows steps after an end; they mean nothing
            outcome = (float(reward), self._tape.flat(0, obs), bool(terminated), bool(truncated))
            self._tape.write(0, number, outcome, info.get, (self.policy_version, self.log_prob))
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
        self.log_prob: NDArray[np.float32] | Sequence[float | None] | None = None
        self.acted: Acted | None = None
        self._tape = tape

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and begin an episode each; of a part of them (`reset_mask`), those alone."""
        mask = (options or {}).get("reset_mask")  # the environment takes it out
        obs, info = self.env.reset(seed=seed, options=options)
        for i, flat in enumerate(self._flats(obs, reset=True)):
            agent = self._tape.agents[i]
            goes_on = mask is not None and not mask[i]
            # An environment that does not know the mask has reset them all: its observations are others.
            if not (goes_on and (agent.obs is None or np.array_equal(agent.obs, flat, equal_nan=True))):
                agent.begin(flat)
        return obs, info

    @override
    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and record what was one."""
        if self.acted is not None:
            self.policy_version, self.log_prob = self.acted(actions)
        numbers = [self._tape.number(action) for action in iterate(self.env.action_space, actions)]
        obs, rewards, terminated, truncated, info = self.env.step(actions)
        for i, (number, flat) in enumerate(zip(numbers, self._flats(obs), strict=True)):
            if self._tape.agents[i].obs is None:
                self._tape.agents[i].begin(flat)
                continue
            outcome = (float(rewards[i]), flat, bool(terminated[i]), bool(truncated[i]))
            log_prob = _of_many(self.log_prob, i)
            self._tape.write(i, number, outcome, partial(_told, info, i), (self.policy_version, log_prob))
        self.log_prob = None
        return obs, rewards, terminated, truncated, info

    def _flats(self, obs: Any, *, reset: bool = False) -> list[NDArray[np.float32]]:  # noqa: ANN401 as the space has it
        rows = enumerate(iterate(self.env.observation_space, obs))
        return [self._tape.flat(i, row, reset=reset) for i, row in rows]

    @override
    def close(self, **kwargs: Any) -> None:
        """Send the rest and a heartbeat to each partition, then close the environments."""
        self._tape.close()
        super().close(**kwargs)


def _of_many(values: NDArray[np.float32] | Sequence[float | None] | None, i: int) -> float | None:
    """Return environment i's number. Arrays can't hold None: NaN stands for what is not known, as in Arrow messages."""
    value = None if values is None else values[i]
    return None if value is None or np.isnan(value) else float(value)


def _told(info: dict[str, Any], i: int, name: str) -> Any:  # noqa: ANN401 as the environment gives it
    """Return what environment i told; where it told nothing its place is filled, which `_name` says."""
    mask = info.get(f"_{name}")
    return info[name][i] if name in info and (mask is None or mask[i]) else None


def record(
    env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any],
    *,
    task: str,
    log: str | Log | None = None,
    agent_id: str = "agent",
    observations: Sequence[str] = (),
    actions: Sequence[str] = (),
    reward_terms: Sequence[str] = (),
    window_ms: int | None = None,
    grace_ms: int = 5_000,
    batch: int = 256,
    clock: Clock = system_clock,
) -> Recorder | VectorRecorder:
    """Wrap an environment so that its steps are sent to a log.

    task: its name; if the log does not know it yet, its spec is derived from the spaces and added. It names the
    environment as the task's simulator where its id makes it again. log: a URL or an
    open log; None: HEADRACE_LOG, else ./.headrace. agent_id: of a vector environment's agents -0, -1, ... are
    added. observations, actions: names, else x0, x1, ... and 0, 1, ... reward_terms: keys of `info` that hold the
    reward's parts. window_ms: 10,000 unless told otherwise. clock: gives the steps' event time, ms.

    Raises SettingsError for spaces that are no numbers, or before `headrace init`; InvalidTaskError where the known
    task is another than the environment's, or than what is asked for here.
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
    start_ms, reach = clock(), _reach(env)
    asked = Asked(tuple(observations), tuple(actions), tuple(reward_terms), window_ms, start_ms, reach)
    derived = derive_task(task, numbers, asked, made_again_by(env))
    with ExitStack() as stack:
        opened = _opened(log, stack)
        writer = Writer(opened, known_task(opened, derived, asked), agents, clock, batch, grace_ms)
        tape = _Tape(writer, numbers, _run(opened, start_ms), stack.pop_all())
    return VectorRecorder(env, tape) if isinstance(env, VectorEnv) else Recorder(env, tape)


def _reach(env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> Bounds | None:
    """Return the bounds that an environment says its observations have, infinite ones among them."""
    space = env.single_observation_space if isinstance(env, VectorEnv) else env.observation_space
    flat = gym.spaces.flatten_space(space)
    return Bounds(tuple(flat.low.tolist()), tuple(flat.high.tolist())) if isinstance(flat, gym.spaces.Box) else None


def _opened(log: str | Log | None, stack: ExitStack) -> Log:
    if log is not None and not isinstance(log, str):
        return log
    try:
        return stack.enter_context(open_services(read_settings({"log": log}))).log
    except HeadraceError as error:
        raise error.with_traceback(None) from None  # what a person must do is in its sentence


def _run(log: Log, start_ms: int) -> str:
    """Return what no other recording's episodes are named by, or their steps are taken for repeated ones.

    Where a virtual clock begins anew, what is on the log already tells the recordings apart.
    """
    count = log.topic(TRANSITIONS).partitions
    sent = sum(log.bounds(TRANSITIONS, partition)[1] for partition in range(count))
    return f"{start_ms}.{sent}" if sent else str(start_ms)
