"""What the scorecard explains: for a seed, three tasks with two policies each, and the rows that agents made by them.

CloudService has a simulator of headrace's own, CartPole is Gymnasium's, and the pendulum, whose actions are continuous,
is a task of which only rows are known. Facts are computed as `run explain` computes them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.acting import BoxPolicy, Policy, load_policy
from headrace.learners.checkpoint import pack
from headrace.learners.cloud import ACTION_NAMES, ENVIRONMENT_ID, OBSERVATION_NAMES
from headrace.learners.explain.decision import decision_facts
from headrace.learners.explain.facts import version_facts
from headrace.learners.explain.interval import IntervalFold, interval_facts
from headrace.learners.explain.rows import SampledRows
from headrace.learners.explain.scorecard_reader import States
from headrace.learners.explain.studied import Decision, action_range, studied, targets
from headrace.learners.explain.witness import Witness
from headrace.learners.simulate.curve import Moment
from headrace.learners.simulate.training import TrainingConfig, train
from headrace.learners.simulate.training_environments import training_environment
from headrace.learners.stream.algorithms import algorithm
from headrace.pipelines.study.design import PLAIN_DQN
from headrace.schemas.chunk import agent_stats, stats_by, total_stats
from headrace.schemas.records import Bounds, Facts, PolicyVersion, TaskSpec, WindowSummary
from headrace.schemas.transition import TransitionBatch

AGENTS: Final = 16
ROUNDS: Final = 200
"""Steps of each agent in an interval."""
EXPLORATION: Final = 0.1
"""Of agents with named actions; others draw."""
INTERVAL_MS: Final = 3_600_000
BEGIN_MS: Final = 1_767_225_600_000
"""2026-01-01T00:00Z: when the first interval begins."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A task to explain. environment: where its policies come from, whether the task names it or not."""

    spec: TaskSpec
    environment: str
    training: TrainingConfig
    steps: int


def subjects() -> tuple[Subject, ...]:
    """Return the tasks that are explained."""
    cloud = TaskSpec("cloud", OBSERVATION_NAMES, ACTION_NAMES, INTERVAL_MS, environment=ENVIRONMENT_ID)
    seen = ("cart_position", "cart_speed", "pole_angle", "pole_speed")
    cartpole = TaskSpec("cartpole", seen, ("left", "right"), INTERVAL_MS, environment="CartPole-v1")
    pendulum = TaskSpec("pendulum", ("cosine", "sine", "speed"), Bounds((-2.0,), (2.0,)), INTERVAL_MS)
    return (
        Subject(cloud, ENVIRONMENT_ID, PLAIN_DQN, 25_600),
        Subject(cartpole, "CartPole-v1", algorithm("ppo").simulated, 15_360),
        Subject(pendulum, "Pendulum-v1", algorithm("ppo").simulated, 15_360),
    )


def described(tasks: Sequence[Subject]) -> list[list[object]]:
    """Return all that explanations depend on but their seed, as JSON has it."""
    trained = [[repr(one.spec), one.environment, repr(one.training), one.steps] for one in tasks]
    return [*trained, [AGENTS, ROUNDS, EXPLORATION]]


class Explained:
    """A task's two policies, trained by a seed, the second one from where the first one was.

    Raises as `train` does.
    """

    def __init__(self, subject: Subject, seed: int) -> None:
        self.spec = subject.spec
        self._environment, self._seed = subject.environment, seed
        halves: list[dict[str, NDArray[Any]]] = []

        def watch(moment: Moment) -> dict[str, Any]:
            halves.append({name: values.copy() for name, values in moment.arrays().items()})
            return {}

        done = train(subject.training, subject.environment, seed, subject.steps, watch=watch, points=2)
        self._weights = {1: pack(halves[0]), 2: pack(done.arrays)}
        self._steps = {1: subject.steps // 2, 2: subject.steps}
        self.policy = load_policy(self._weights[2])

    @cached_property
    def unit(self) -> NDArray[np.float64]:
        """What actions are measured by, float64[T]: ones of named actions, of others their ranges."""
        if isinstance(self.policy, Policy):
            return np.ones(self.policy.actions)
        return action_range(self.policy)

    def act(self, obs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what the second policy holds for the best, as `States` have it."""
        return targets(self.policy, obs)

    @property
    def seen(self) -> NDArray[np.float32]:
        """What agents saw that acted by the second policy, float32[M, D]."""
        return self.rows[1].obs

    @cached_property
    def rows(self) -> tuple[TransitionBatch, TransitionBatch]:
        """Rows of an interval by the first policy, and of the next one by the second."""
        return self._rows(1, 0), self._rows(2, 1)

    @cached_property
    def held_out(self) -> States:
        """States of other episodes, which no explanation is of."""
        obs = self._rows(2, 2).obs
        return States(obs, self.act(obs))

    def version_facts(self) -> Facts:
        """Compute the facts of the second policy as a version that a gate let serve."""
        records = {number: self._record(number) for number in self._weights}
        witness = Witness(lambda _, number: self._weights[number], lambda _: [self.rows[1]])
        evidence = witness.evidence(self.spec, records[2], [records[1]])
        return version_facts(self.spec, records[2], evidence, records[1])

    def decisions(self, places: Sequence[int]) -> Iterator[tuple[Decision, Callable[[], Facts]]]:
        """Yield decisions that agents took by the second policy, each with what computes its facts."""
        rows = self.rows[1]
        by = studied(2, self.policy, self.seen)
        for place in places:
            action = rows.action[place]
            decision = Decision(
                rows.agents[rows.agent[place]],
                rows.episodes[rows.episode[place]],
                int(rows.step[place]),
                rows.obs[place],
                int(action) if self.spec.discrete else action,
            )
            yield decision, partial(decision_facts, self.spec, decision, by)

    def interval_facts(self) -> Facts:
        """Compute the facts of the second interval."""
        totals = []
        for place, rows in enumerate(self.rows):
            start_ms = BEGIN_MS + place * INTERVAL_MS
            fold = IntervalFold(start_ms, start_ms + INTERVAL_MS, 0)
            fold.add(_summary(self.spec, rows, start_ms))
            totals.append(fold.totals())
        return interval_facts(self.spec, totals[1], totals[0], rows=SampledRows([self.rows[1]], [self.rows[0]]))

    def _record(self, number: int) -> PolicyVersion:
        return PolicyVersion(
            task=self.spec.task,
            version=number,
            parent=number - 1 or None,
            algorithm="",
            config={},
            seed=self._seed,
            code_version="",
            weights_hash="",
            environment_steps=self._steps[number],
            updates=0,
            lineage=[],
            evaluation={},
            difference=None,
            promoted=True,
            reason="",
        )

    def _rows(self, number: int, part: int) -> TransitionBatch:
        """Let agents act by a policy; part: gives other episodes."""
        drawn = np.random.SeedSequence([seeds.SCORED_STATES.first, self._seed, part])
        own, acting = drawn.spawn(2)
        environment = training_environment(self._environment, AGENTS, int(own.generate_state(1)[0]))
        policy, rng = load_policy(self._weights[number]), np.random.default_rng(acting)
        columns, episode = [], np.arange(AGENTS)
        for _ in range(ROUNDS):
            obs, (action, log_prob) = environment.obs.copy(), _acted(policy, environment.obs, rng)
            step = environment.step(action)
            done = step.terminated | step.truncated
            reward = step.reward / environment.return_scale
            columns.append((episode, obs, action, log_prob, reward, step.next_obs, step.terminated, step.truncated))
            episode = np.where(done, episode.max() + 1 + np.arange(AGENTS), episode)
        return _batch(self.spec.task, number, BEGIN_MS + part * INTERVAL_MS, columns)


Acted = tuple[NDArray[Any], NDArray[np.float32]]


def _acted(policy: Policy | BoxPolicy, obs: NDArray[np.float32], rng: np.random.Generator) -> Acted:
    """Act as agents do; and the actions' log-probabilities."""
    if isinstance(policy, BoxPolicy) or policy.softmax:
        return policy.sample(obs, rng)
    return policy.explore(obs, EXPLORATION, rng)


def _batch(task: str, version: int, begin_ms: int, columns: Sequence[tuple[NDArray[Any], ...]]) -> TransitionBatch:
    """Join the columns of steps, agent by agent within a step."""
    episode, obs, action, log_prob, reward, next_obs, terminated, truncated = (
        np.concatenate(one) for one in zip(*columns, strict=True)
    )
    names, codes = np.unique(episode, return_inverse=True)
    place = np.arange(len(episode))
    return TransitionBatch(
        task=task,
        agents=tuple(f"agent-{number}" for number in range(AGENTS)),
        episodes=tuple(f"e{number}" for number in names.tolist()),
        agent=(place % AGENTS).astype(np.int32),
        episode=codes.astype(np.int32),
        step=_counted(codes),
        ts=begin_ms + place // AGENTS * (INTERVAL_MS // ROUNDS),
        offset=place,
        obs=obs,
        action=action.astype(np.int32 if action.ndim == 1 else np.float32),
        reward=reward.astype(np.float32),
        next_obs=next_obs,
        terminated=terminated,
        truncated=truncated,
        reward_terms=np.zeros((len(place), 0), np.float32),
        policy_version=np.full(len(place), version, np.int64),
        log_prob=log_prob.astype(np.float32),
    )


def _counted(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which of its code's places each place is, from 0: int64[N] of int64[N]."""
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    found = np.empty(len(codes), np.int64)
    found[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return found


def _summary(spec: TaskSpec, rows: TransitionBatch, start_ms: int) -> WindowSummary:
    """Fold an interval's rows, which are one window."""
    count = spec.action_count if spec.discrete else 0
    stats = stats_by(rows, rows.agent, AGENTS, count).slice(0, AGENTS, rows.agents)
    agents, totals = agent_stats(stats), total_stats(stats)
    return WindowSummary(spec.task, 0, 0, start_ms, start_ms + INTERVAL_MS, len(rows), 0, totals, agents, [])
