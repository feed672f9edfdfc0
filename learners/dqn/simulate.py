"""DQN in a world: epsilon-greedy steps into replay, and updates that draw from it."""

import dataclasses

import numpy as np

from headrace.learners import dqn
from headrace.learners.dqn.nstep import NStepWindow
from headrace.learners.dqn.prioritised import PrioritisedReplay
from headrace.learners.dqn.replay import Batch, ReplayBuffer
from headrace.learners.simulate.curve import Curve, Follow, Trained, seeds
from headrace.learners.simulate.guide import Guide
from headrace.learners.simulate.worlds import World, make_world
from headrace.schemas.errors import EnvironmentFailedError


@dataclasses.dataclass(frozen=True)
class DQNTraining:
    """How DQN trains in a world; the steps asked for set its `epsilon_steps` and `learning_rate_steps`."""

    config: dqn.DQNConfig = dataclasses.field(default_factory=dqn.DQNConfig)
    environments: int = 64  # episodes at once
    learning_starts: int = 6_400  # steps before the first update
    updates_per_step: float = 1.0  # updates for every step of all episodes
    exploration_share: float = 0.1  # of the steps over which epsilon falls
    shadowed: bool = True  # whether rewards are less the rate rule's on the same trace, where the world has them
    informed: bool = True  # whether the policy has the world's features
    prior: bool = False  # whether it starts from the world's rule

    def plain(self) -> "DQNTraining":
        """Return it without what a simulator offers beyond observations and rewards."""
        return dataclasses.replace(self, informed=False, prior=False, shadowed=False)

    def without_wait(self) -> "DQNTraining":
        """Return it with updates from the first batch on, so that a short run costs a step what a long one does."""
        return dataclasses.replace(self, learning_starts=self.config.batch_size)

    def train(self, environment: str, seed: int, steps: int, follow: Follow) -> Trained:
        """Train in an environment for at least `steps` steps.

        Raises EnvironmentFailedError where actions are continuous.
        """
        world_seed, seed, rng = seeds(seed)
        world = make_world(environment, self.environments, world_seed, shadow=self.shadowed)
        if world.bounds is not None:
            raise EnvironmentFailedError(
                f"{environment} has continuous actions, and DQN learns discrete ones only: use ppo"
            )
        config = self._scheduled(steps)
        state = dqn.init(
            config,
            world.width,
            world.actions,
            seed,
            features=world.features if self.informed else None,
            prior=world.prior if self.prior else None,
        )
        replay = _Memory(config, world.width)
        window = NStepWindow(config.n_step, config.discount)
        curve, guide, taken, metrics = follow(world), Guide(world.count, world.rules), 0, dict[str, float]()
        while taken < steps:
            _dqn_step(world, state, replay, window, guide, rng, taken, curve)
            taken += world.count
            wanted = int((taken - self.learning_starts) / world.count * self.updates_per_step)
            while state.updates < wanted:
                state, metrics = replay.update(state)
            state = curve.mark(taken, metrics, state, state.updates, dqn.policy_arrays)
        return Trained(dqn.policy_arrays(state), taken, state.updates, curve.finish())

    def _scheduled(self, steps: int) -> dqn.DQNConfig:
        updates = int((steps - self.learning_starts) / self.environments * self.updates_per_step)
        epsilon_steps = int(steps * self.exploration_share)
        return dataclasses.replace(self.config, learning_rate_steps=max(1, updates), epsilon_steps=epsilon_steps)


def _dqn_step(
    world: World,
    state: dqn.DQNState,
    replay: "_Memory",
    window: NStepWindow,
    guide: Guide,
    rng: np.random.Generator,
    taken: int,
    curve: Curve,
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
