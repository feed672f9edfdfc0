"""Training in a world: functions of (configuration, seed, steps) alone.

The same configuration, seed and number of steps give the same weights to the bit, on one machine and one
thread. Nothing here knows the time.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.dqn import dqn
from headrace.learners.dqn.nstep import NStepWindow
from headrace.learners.dqn.prioritised import PrioritisedReplay
from headrace.learners.dqn.replay import Batch, ReplayBuffer
from headrace.learners.ppo import ppo
from headrace.learners.simulate.guide import Guide
from headrace.learners.simulate.worlds import Returns, Step, World, make_world
from headrace.schemas.errors import EnvironmentFailedError

CURVE_POINTS = 50


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """Where training is.

    Attributes:
        steps: environment steps so far, all episodes together.
        mean_return: of the episodes that ended since the last point, as reports quote it; None if none did.
        metrics: of the newest update.
        episodes: those that ended since the last point.
    """

    steps: int
    mean_return: float | None
    metrics: dict[str, float]
    episodes: int = 0


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training made.

    Attributes:
        arrays: the policy's, for `acting.load_policy`.
        steps: environment steps taken.
        updates: updates done.
        curve: how it went.
    """

    arrays: dict[str, np.ndarray]
    steps: int
    updates: int
    curve: list[CurvePoint]


@dataclasses.dataclass(frozen=True)
class Moment:
    """A training between two updates, at a point of its curve.

    Attributes:
        point: the newest of the curve.
        updates: updates done so far.
        config: what is learned by.
        arrays: makes the policy's.
    """

    point: CurvePoint
    updates: int
    config: dqn.DQNConfig | ppo.PPOConfig
    arrays: Callable[[], dict[str, np.ndarray]]


OnPoint = Callable[[CurvePoint], None]
Watch = Callable[[Moment], Mapping[str, Any]]
"""Is shown every moment; gives the fields of the configuration that hold from there on, if they change."""
_State = TypeVar("_State", dqn.DQNState, ppo.PPOState)


class _Curve:
    """Collects points at equal distances."""

    def __init__(self, world: World, steps: int, on_point: OnPoint, watch: Watch | None, points: int) -> None:
        self.points: list[CurvePoint] = []
        self._returns = Returns(world.count, world.return_scale)
        self._distance = max(1, steps // points)
        self._steps, self._on_point, self._watch = steps, on_point, watch

    def add(self, step: Step) -> None:
        self._returns.add(step)

    def mark(
        self,
        steps: int,
        metrics: dict[str, float],
        state: _State,
        updates: int,
        arrays: Callable[[_State], dict[str, np.ndarray]],
    ) -> _State:
        """Add a point if one is due, or training is over; give the state to go on with."""
        if steps < (len(self.points) + 1) * self._distance and steps < self._steps:
            return state
        ended = self._returns.take()
        point = CurvePoint(steps, float(np.mean(ended)) if ended else None, metrics, len(ended))
        self.points.append(point)
        self._on_point(point)
        if self._watch is None:
            return state
        changes = self._watch(Moment(point, updates, state.config, functools.partial(arrays, state)))
        return dataclasses.replace(state, config=dataclasses.replace(state.config, **changes))

    def finish(self) -> list[CurvePoint]:
        self._returns.require_news()
        return self.points


@dataclasses.dataclass(frozen=True)
class PPOTraining:
    """How PPO trains in a world.

    Attributes:
        config: the algorithm's own; its `schedule_rows` is set to the steps asked for.
        environments: episodes at once.
        rollout_steps: steps of each between two updates.
        privileged: whether the critic sees what no agent does, where the world tells.
        informed: whether the policy has the world's features and prior.
    """

    config: ppo.PPOConfig = dataclasses.field(default_factory=ppo.PPOConfig)
    environments: int = 256
    rollout_steps: int = 20
    privileged: bool = True
    informed: bool = True


@dataclasses.dataclass(frozen=True)
class DQNTraining:
    """How DQN trains in a world.

    Attributes:
        config: the algorithm's own; `epsilon_steps` and `learning_rate_steps` are set by the steps asked for.
        environments: episodes at once.
        learning_starts: steps before the first update.
        updates_per_step: updates for every step of all episodes.
        exploration_share: share of the steps over which epsilon falls.
        shadowed: whether rewards are told less the rate rule's on the same trace, where the world tells.
        informed: whether the policy has the world's features.
        prior: whether it starts from the world's rule.
    """

    config: dqn.DQNConfig = dataclasses.field(default_factory=dqn.DQNConfig)
    environments: int = 64
    learning_starts: int = 6_400
    updates_per_step: float = 1.0
    exploration_share: float = 0.1
    shadowed: bool = True
    informed: bool = True
    prior: bool = False


Training = PPOTraining | DQNTraining


def train(
    training: Training,
    environment: str,
    seed: int,
    steps: int,
    on_point: OnPoint = lambda _: None,
    *,
    watch: Watch | None = None,
    points: int = CURVE_POINTS,
) -> Trained:
    """Train in an environment for at least `steps` steps.

    Args:
        training: the configuration.
        environment: its id.
        seed: of everything random.
        steps: environment steps, all episodes together.
        on_point: is told each point of the curve.
        watch: may look at the policy there, and change the configuration.
        points: of the curve.

    Raises:
        EnvironmentFailedError: the environment raised, or nothing can be learned in it.
        LearnerDivergedError: a loss or gradient is not finite, or beyond its limit.
    """
    follow = functools.partial(_Curve, steps=steps, on_point=on_point, watch=watch, points=points)
    if isinstance(training, PPOTraining):
        return _train_ppo(training, environment, seed, steps, follow)
    return _train_dqn(training, environment, seed, steps, follow)


def _seeds(seed: int) -> tuple[int, int, np.random.Generator]:
    """Of the world, of the learner, and the generator that acts."""
    world, learner, acting = np.random.SeedSequence(seed).spawn(3)
    return int(world.generate_state(1)[0]), int(learner.generate_state(1)[0]), np.random.default_rng(acting)


def _train_ppo(
    training: PPOTraining, environment: str, seed: int, steps: int, follow: Callable[[World], _Curve]
) -> Trained:
    world_seed, seed, rng = _seeds(seed)
    world = make_world(environment, training.environments, world_seed, privileged=training.privileged)
    state = ppo.init(
        dataclasses.replace(training.config, schedule_rows=steps),
        world.width,
        world.actions,
        seed,
        bounds=world.bounds,
        features=world.features if training.informed else None,
        prior=world.prior if training.informed else None,
        privileged_width=world.privileged_width,
    )
    curve = follow(world)
    while state.rows < steps:
        rollout = _rollout(world, ppo.behaviour_arrays(state), training.rollout_steps, rng, curve)
        state, metrics = ppo.update(state, rollout)
        state = curve.mark(state.rows, metrics, state, state.version, ppo.policy_arrays)
    return Trained(ppo.policy_arrays(state), state.rows, state.version, curve.finish())


def _rollout(
    world: World, arrays: dict[str, np.ndarray], steps: int, rng: np.random.Generator, curve: _Curve
) -> ppo.Rollout:
    """T steps of all episodes by the policy."""
    policy: Policy | BoxPolicy = Policy(arrays) if world.bounds is None else BoxPolicy(arrays)
    columns: list[tuple[np.ndarray, ...]] = []
    unseen: list[tuple[np.ndarray | None, np.ndarray | None]] = []
    for _ in range(steps):
        obs, privileged = world.obs, world.privileged
        action, log_prob = policy.sample(obs, rng)
        step = world.step(policy.cut(action) if isinstance(policy, BoxPolicy) else action)
        curve.add(step)
        columns.append((obs, action, log_prob, step.reward, step.next_obs, step.terminated, step.truncated))
        unseen.append((privileged, step.next_privileged))
    before, after = (_stacked(column) for column in zip(*unseen, strict=True))
    seen = [np.stack(column) for column in zip(*columns, strict=True)]
    return ppo.Rollout(*seen, privileged=before, next_privileged=after)  # type: ignore[misc] # of seven columns


def _stacked(arrays: tuple[np.ndarray | None, ...]) -> np.ndarray | None:
    there = [array for array in arrays if array is not None]
    return np.stack(there) if there else None


def _train_dqn(
    training: DQNTraining, environment: str, seed: int, steps: int, follow: Callable[[World], _Curve]
) -> Trained:
    world_seed, seed, rng = _seeds(seed)
    world = make_world(environment, training.environments, world_seed, shadow=training.shadowed)
    if world.bounds is not None:
        raise EnvironmentFailedError(
            f"{environment} has continuous actions, and DQN learns discrete ones only: use ppo"
        )
    config = _scheduled(training, steps)
    state = dqn.init(
        config,
        world.width,
        world.actions,
        seed,
        features=world.features if training.informed else None,
        prior=world.prior if training.prior else None,
    )
    replay = _Memory(config, world.width)
    window = NStepWindow(config.n_step, config.discount)
    curve, guide, taken, metrics = follow(world), Guide(world.count), 0, dict[str, float]()
    while taken < steps:
        _dqn_step(world, state, replay, window, guide, rng, taken, curve)
        taken += world.count
        wanted = int((taken - training.learning_starts) / world.count * training.updates_per_step)
        while state.updates < wanted:
            state, metrics = replay.update(state)
        state = curve.mark(taken, metrics, state, state.updates, dqn.policy_arrays)
    return Trained(dqn.policy_arrays(state), taken, state.updates, curve.finish())


def _scheduled(training: DQNTraining, steps: int) -> dqn.DQNConfig:
    updates = int((steps - training.learning_starts) / training.environments * training.updates_per_step)
    epsilon_steps = int(steps * training.exploration_share)
    return dataclasses.replace(training.config, learning_rate_steps=max(1, updates), epsilon_steps=epsilon_steps)


def _dqn_step(
    world: World,
    state: dqn.DQNState,
    replay: "_Memory",
    window: NStepWindow,
    guide: Guide,
    rng: np.random.Generator,
    taken: int,
    curve: _Curve,
) -> None:
    """One epsilon-greedy step of all episodes, into replay."""
    obs = world.obs
    greedy = dqn.greedy(state, obs)
    explores = rng.random(world.count) < dqn.exploration_at(state.config, taken)
    other = rng.integers(world.actions, size=world.count)
    other = guide.guided(other, obs, state.config.explore_rule, state.config.explore_share, rng)
    action = np.where(explores, other, greedy)
    step = world.step(action)
    curve.add(step)
    done = step.terminated | step.truncated
    guide.ended(done)
    reward = step.reward if step.shadow is None else step.reward - step.shadow
    for batch in window.push(Batch(obs, action, reward, step.next_obs, step.terminated), done):
        replay.add(batch)


class _Memory:
    """Uniform or prioritised replay, as the configuration says."""

    def __init__(self, config: dqn.DQNConfig, width: int) -> None:
        self._uniform = None if config.priority else ReplayBuffer(config.replay_capacity, width)
        capacity = config.replay_capacity if config.priority else 1
        self._prioritised = PrioritisedReplay(capacity, width, config.priority)

    def add(self, batch: Batch) -> None:
        memory = self._prioritised if self._uniform is None else self._uniform
        memory.add(batch)

    def update(self, state: dqn.DQNState) -> tuple[dqn.DQNState, dict[str, float]]:
        rows = state.config.batch_size
        if self._uniform is not None:
            return dqn.update(state, self._uniform.sample(state.rng, rows))
        beta = dqn.priority_correction_at(state.config, state.updates)
        drawn = self._prioritised.sample(state.rng, rows, beta)
        state, metrics, errors = dqn.update_prioritised(state, drawn.batch, drawn.weight)
        self._prioritised.reprioritise(drawn.places, errors)
        return state, metrics
