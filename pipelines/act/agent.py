"""An agent: it acts by the version that serves its task, and never waits for anything.

    agent = follow("cartpole")
    action = agent.act(obs)

A thread looks on the log for what serves, loads it, checks its hash, and puts it in the old one's place between two
acts. Where log and store are down, the agent acts on by what came last.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from headrace.learners.stream.exploring import Exploration
from headrace.pipelines.act.choice import Choice
from headrace.pipelines.act.choosers import Rule, Ruled
from headrace.pipelines.act.follower import Follower
from headrace.pipelines.act.versions import Reader, kept
from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import Services
from headrace.schemas.errors import UnknownTaskError
from headrace.schemas.ports import Log, PolicyStore

if TYPE_CHECKING:  # Gymnasium takes a third of a second to load
    from headrace.pipelines.act.environments import Env, Spaces

LOOK_EVERY_S: Final = 1.0
WAIT_S: Final = 2.0


class Agent:
    """Acts; made by `follow`. Not for use by two threads at once: make one for each.

    After an act, policy_version: what acted, None where chance or the fallback did. log_prob: the logarithm of the
    action's probability (of a continuous one as docs/topics.md says); float, or float[B] of a batch; None, or NaN,
    where it is not known.
    """

    def __init__(self, choice: Choice, follower: Follower, spaces: "Spaces | None") -> None:
        self.policy_version: int | None = None
        self.log_prob: Any = None
        self._choice = choice
        self._follower = follower
        self._spaces = spaces
        self._given: Any = None

    def act(self, obs: Any) -> Any:  # noqa: ANN401 numbers, or as the environment has them
        """Return an action for one observation float32[D], or one for each row of float32[B, D].

        Discrete actions are numbered from 0, continuous ones are float32[A]. Where the agent was given an environment,
        observations and actions are as that has them. Raises ValueError for another width.
        """
        chooser = self._choice.chooser  # read once: it may be another after any line
        spaces = self._spaces
        if spaces is not None:
            obs = spaces.numbers(obs)
        elif type(obs) is not np.ndarray:
            obs = np.asarray(obs, np.float32)
        assert chooser is not None
        shape = obs.shape
        if shape[-1:] != chooser.shape and chooser.shape:
            raise ValueError(f"observations have shape {shape}; the policy takes {chooser.shape}, or rows of that")
        action, self.log_prob = chooser.one(obs) if len(shape) == 1 else chooser.many(obs)
        self.policy_version = chooser.version
        if spaces is not None:
            action = spaces.actions(action)
        self._given = action
        return action

    def acted(self, action: Any) -> tuple[int | None, Any]:  # noqa: ANN401 as the environment has it
        """Return what a step's record says, (policy_version, log_prob); Nones where the action is not from here."""
        given, self._given = self._given, None
        if given is None or not (action is given or np.array_equal(action, given)):
            return None, None
        return self.policy_version, self.log_prob

    @property
    def trouble(self) -> str:
        """Why no newer version can be looked for just now; "" where that goes well."""
        return self._follower.trouble

    def close(self) -> None:
        """Look for newer versions no more. Acting goes on."""
        self._follower.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def follow(
    task: str,
    *,
    log: str | Log | None = None,
    policies: str | PolicyStore | None = None,
    env: "Env | None" = None,
    explore: bool | Exploration = True,
    fallback: Rule | float | Sequence[float] | None = None,
    keep: str | Path | None = None,
    agent_id: str = "agent",
    seed: int | None = None,
    look_every_s: float = LOOK_EVERY_S,
    wait_s: float = WAIT_S,
) -> Agent:
    """Act by the version that serves a task now, and by each that is promoted from now on.

    log, policies: URLs, or what is open already; None: HEADRACE_LOG and HEADRACE_POLICIES, else ./.headrace. env: the
    environment, if there is one: the agent takes its observations and gives its actions, and where `record` wrapped it
    each step is recorded with the version that acted and how likely its action was. explore: False for the best action
    each time; True as the algorithm explores: a PPO draws, a DQN is epsilon-greedy by a schedule over the rows learned
    from, and by what the advisor changed of it. fallback: what acts until a version serves: a rule that gives an action
    for float32[D], or one action; without it chance does. keep: a file for the last version, from which an agent begins
    where all else is down. agent_id: says whether the agent takes part in a canary. wait_s: how long to wait for the
    first look at the log.

    Raises SettingsError for settings that can't be used, UnknownTaskError where nothing says what the actions are.
    """
    schedule = (explore if isinstance(explore, Exploration) else Exploration()) if explore else None
    choice = Choice(task, schedule, np.random.default_rng(seed))
    if fallback is not None:
        choice.chooser = Ruled(fallback if callable(fallback) else _constant(fallback))
    spaces = _spaces(env)
    if spaces is not None:
        choice.fits(spaces.shape.width, spaces.shape.actions, spaces.shape.bounds)
    path = Path(keep) if keep is not None else None
    last = kept(path, task) if path is not None else None
    base = schedule or Exploration()
    choice.take(None, last, base)
    opened = _opening(log, policies)
    follower = Follower(lambda stack: Reader(*opened(stack), task, agent_id, base), choice.take, look_every_s, path)
    follower.start(last, wait_s)
    if choice.chooser is None:
        follower.close()
        raise UnknownTaskError(
            f"task {task}: {follower.trouble or 'the log has no such task'}, so nothing says what its actions are: add "
            "it (`headrace task add`, or `record`), or give follow env=, fallback= or keep="
        )
    agent = Agent(choice, follower, spaces if spaces is not None and not spaces.plain else None)
    if spaces is not None:
        spaces.tell_recorder(agent.acted)
    return agent


def _constant(action: float | Sequence[float]) -> Rule:
    if isinstance(action, Integral):
        return lambda _: int(action)
    given = np.atleast_1d(np.asarray(action, np.float32))
    return lambda _: given.copy()


def _spaces(env: "Env | None") -> "Spaces | None":
    if env is None:
        return None
    from headrace.pipelines.act.environments import Spaces  # noqa: PLC0415 it loads Gymnasium

    return Spaces(env)


def _opening(
    log: str | Log | None, policies: str | PolicyStore | None
) -> Callable[[ExitStack], tuple[Log, PolicyStore]]:
    """Return what opens log and store; raises SettingsError for URLs that can't be used."""
    urls = {name: url for name, url in (("log", log), ("policies", policies)) if isinstance(url, str)}
    settings, parts = read_settings(urls), ("log", "policies")
    Services(settings, parts=parts)  # opens nothing, but checks the URLs

    def opened(stack: ExitStack) -> tuple[Log, PolicyStore]:
        services = stack.enter_context(closing(Services(settings, parts=parts)))
        found = services.log if log is None or isinstance(log, str) else log
        return found, services.policies if policies is None or isinstance(policies, str) else policies

    return opened
