"""fleet: simulated agents that act with the newest promoted policy and emit their transitions.

Agents live on a virtual clock that starts in the past and never passes the log's append time, so that a run with a
seed is reproducible. One window is one episode of every agent. NumPy alone; torch is never imported.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import Policy
from headrace.learners.checkpoint import weights_hash
from headrace.learners.cloud import (
    ACTION_NAMES,
    ENVIRONMENT_ID,
    EPISODE_STEPS,
    OBSERVATION_NAMES,
    OUTCOMES,
    REWARD_SCALE,
    REWARD_TERMS,
    STEP_MS,
    Simulation,
    draw_traces,
)
from headrace.learners.cloud.controllers import RULES
from headrace.learners.stream.exploring import Exploration, Explorer
from headrace.pipelines.runtime.heartbeat import heartbeats
from headrace.pipelines.runtime.retry import retried
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.topics import DIRECTIVES, POLICIES, TRANSITIONS, TopicReader, records
from headrace.schemas import codec, codec_arrow
from headrace.schemas.errors import CorruptDataError
from headrace.schemas.policy_versions import acts_by
from headrace.schemas.ports import Log, PolicyStore, Record
from headrace.schemas.records import Directive, Layout, ServingPolicy, TaskSpec
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

logger = logging.getLogger(__name__)

START_MS = 1_767_225_600_000
"""2026-01-01 UTC: where the demo's virtual clock starts."""


def cloud_task() -> TaskSpec:
    """Return the task of agents that autoscale `CloudService-v0`; a window is an episode long."""
    return TaskSpec(
        task="cloud",
        observations=OBSERVATION_NAMES,
        actions=ACTION_NAMES,
        window_ms=EPISODE_STEPS * STEP_MS,
        reward_terms=REWARD_TERMS,
        environment=ENVIRONMENT_ID,
        outcomes=OUTCOMES,
    )


class VirtualClock:
    """The time of a simulated fleet and of the log that it writes to, ms."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms


class Actor:
    """The versions that agents act by now, one or, during a canary, two; and how they explore beside them.

    version: the one that serves. versions: int64[N], each agent's own.
    """

    def __init__(self, log: Log, store: PolicyStore, task: str, names: tuple[str, ...], explorer: Explorer) -> None:
        self.store = store
        self.task = task
        self.explorer = explorer
        self.version = NO_POLICY_VERSION
        self.versions = np.full(len(names), NO_POLICY_VERSION)
        self._names = names
        self._loaded: dict[int, Policy] = {}
        self._wanted: ServingPolicy | None = None
        self._followed: ServingPolicy | None = None
        self._policies = TopicReader(log, POLICIES, task)
        self._directives = TopicReader(log, DIRECTIVES, task)

    @property
    def policy(self) -> Policy | None:
        """The policy that serves, None while none does."""
        return self._loaded.get(self.version)

    def refresh_policy(self) -> None:
        """Load what is to be acted by now, if that is another than was. Raises CorruptDataError for other weights."""
        for record in records(self._policies.batches(), ServingPolicy, strict=True):
            self._wanted = record
        wanted = self._wanted
        if wanted is None or wanted == self._followed or not wanted.version:
            return
        hashes = {wanted.version: wanted.weights_hash}
        if wanted.canary:
            hashes[wanted.canary.version] = wanted.canary.weights_hash
        self._loaded = {number: self._loaded.get(number) or self._load(number, hashes[number]) for number in hashes}
        self.version = wanted.version
        self.versions = np.array([acts_by(wanted, name) for name in self._names])
        self._followed = wanted

    def _load(self, number: int, expected: str) -> Policy:
        weights = self.store.weights(self.task, number)
        if weights_hash(weights) != expected:
            raise CorruptDataError(f"policy {self.task}@{number}: the store holds other weights than promoted")
        logger.info("agents act with %s@%d", self.task, number)
        return Policy.from_bytes(weights)

    def apply_directives(self) -> None:
        """Explore as the directives say that stand now."""
        for batch in self._directives.batches():
            self.explorer.apply([*records([batch], Directive, strict=True)])

    def act(
        self, obs: NDArray[np.float32], steps: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return actions and their log-probabilities; NaN where a rule or epsilon had a part in them."""
        unknown = np.full(len(obs), np.nan, np.float32)
        if self.policy is None:
            actions = self.explorer.act(lambda _: rng.integers(len(ACTION_NAMES), size=len(obs)), obs, None, rng)
            uniform = np.full(len(obs), -math.log(len(ACTION_NAMES)), np.float32)
            return actions, unknown if self.explorer.now.rule else uniform
        # A softmax policy explores by itself: directives about exploring are not for it.
        drawing = {number: policy for number, policy in self._loaded.items() if policy.softmax}
        valuing = {number: policy for number, policy in self._loaded.items() if not policy.softmax}
        rows = {number: policy.sample(obs, rng) for number, policy in drawing.items()}
        if valuing:

            def chosen(epsilon: float) -> NDArray[np.int64]:
                return self._own({number: policy.act(obs, epsilon, rng) for number, policy in valuing.items()})

            rows |= dict.fromkeys(valuing, (self.explorer.act(chosen, obs, steps, rng), unknown))
        taken, likely = ({number: pair[place] for number, pair in rows.items()} for place in (0, 1))
        return self._own(taken), self._own(likely)

    def _own(self, rows: Mapping[int, NDArray[Any]]) -> NDArray[Any]:
        """Return each agent's row, of the version that it acts by, where that is among these; else one of them."""
        own, *_ = rows.values()
        for number, others in rows.items():
            own = np.where(self.versions == number, others, own)
        return own


class Fleet:
    """N agents of one task, in lock-step with each other."""

    def __init__(
        self,
        log: Log,
        store: PolicyStore,
        spec: TaskSpec,
        layout: Layout,
        *,
        agents: int = 64,
        seed: int = 0,
        start_ms: int = START_MS,
        exploration: Exploration | None = None,
    ) -> None:
        self.spec = spec
        self.stop = Stop()
        self.steps = 0
        self.windows = 0
        self.mean_return = math.nan
        self.window_start_ms = start_ms // spec.window_ms * spec.window_ms
        self._log = retried(log, self.stop)
        self._layout = layout
        self._names = tuple(f"agent-{i:04d}" for i in range(agents))
        self._seed = seed
        explorer = Explorer((exploration or Exploration()).stated(spec.learner), RULES)
        self.actor = Actor(self._log, retried(store, self.stop, "policies"), spec.task, self._names, explorer)

    @property
    def version(self) -> int:
        """The version that the agents act with."""
        return self.actor.version

    @property
    def window_end_ms(self) -> int:
        """The event time at which the next window's last step is over."""
        return self.window_start_ms + self.spec.window_ms

    def emit_window(self, advance: Callable[[int], None]) -> float:
        """Act through one window and send it; return the mean (unscaled) return of its episodes.

        advance: is told the time that must have come before what follows is appended (simulated clocks jump to
        it, real ones wait).
        """
        self.actor.refresh_policy()
        self.actor.apply_directives()
        batch, self.mean_return = self._episode()
        advance(self.window_end_ms)
        self._log.send(self._messages(batch))
        closes_ms = self.window_end_ms + self._layout.grace_ms
        advance(closes_ms)
        self._log.send(heartbeats(self._log, self.spec.task, self._names[0], closes_ms))
        self.window_start_ms = self.window_end_ms
        self.windows += 1
        return self.mean_return

    def _messages(self, batch: TransitionBatch) -> list[Record]:
        """Return a message an agent, of its episode."""
        places = np.split(np.argsort(batch.agent, kind="stable"), len(self._names))
        values = (codec_arrow.encode(batch.take(place), self.spec) for place in places)
        return [
            Record(TRANSITIONS, name.encode(), value, codec.ARROW_HEADERS)
            for name, value in zip(self._names, values, strict=True)
        ]

    def _episode(self) -> tuple[TransitionBatch, float]:
        """Step every agent through an episode; rows in the order of (step, agent)."""
        count = len(self._names)
        rng = np.random.default_rng([self._seed, self.windows])
        traces = draw_traces(int(rng.integers(2**31)), count)
        simulation = Simulation(traces)
        self.actor.explorer.begin(count)
        seen = [simulation.observation().copy()]
        actions, log_probs, rewards, terms = [], [], [], []
        for _ in range(EPISODE_STEPS):
            action, log_prob = self.actor.act(seen[-1], self.steps, rng)
            actions.append(action)
            log_probs.append(log_prob)
            obs, rewards_now, terms_now, _ = simulation.step(action)
            seen.append(obs.copy())
            rewards.append(rewards_now.copy())
            terms.append(terms_now.copy())
            self.steps += count
        reward: NDArray[np.float32] = np.concatenate(rewards).astype(np.float32)
        acted = np.concatenate(actions), np.concatenate(log_probs)
        batch = self._columns(np.stack(seen), *acted, reward, np.concatenate(terms))
        return batch, float(np.sum(rewards, axis=0).mean() / REWARD_SCALE)

    def _columns(
        self,
        seen: NDArray[np.float32],
        action: NDArray[np.int64],
        log_prob: NDArray[np.float32],
        reward: NDArray[np.float32],
        terms: NDArray[np.float64],
    ) -> TransitionBatch:
        count, rows = len(self._names), len(action)
        step = np.repeat(np.arange(EPISODE_STEPS), count)
        width = seen.shape[-1]
        return TransitionBatch(
            task=self.spec.task,
            agents=self._names,
            episodes=(f"{self._seed}-{self.windows:06d}",),
            agent=np.tile(np.arange(count, dtype=np.int32), EPISODE_STEPS),
            episode=np.zeros(rows, np.int32),
            step=step,
            ts=self.window_start_ms + step * STEP_MS,
            offset=np.zeros(rows, np.int64),
            obs=seen[:-1].reshape(rows, width),
            action=action.astype(np.int32),
            reward=reward,
            next_obs=seen[1:].reshape(rows, width),
            terminated=np.zeros(rows, np.bool_),
            truncated=step == EPISODE_STEPS - 1,
            reward_terms=terms.astype(np.float32),
            policy_version=np.tile(self.actor.versions, EPISODE_STEPS),
            log_prob=log_prob,
        )
