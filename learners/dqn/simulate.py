"""DQN in a simulator: epsilon-greedy steps into replay, and updates that draw from it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from headrace.learners import dqn
from headrace.learners.dqn.memory import Memory
from headrace.learners.dqn.nstep import NStepWindow
from headrace.learners.dqn.replay import Batch
from headrace.learners.simulate.curve import Follow, Trained, seeds
from headrace.learners.simulate.guide import Guide
from headrace.learners.simulate.training_environments import TrainingEnvironment, training_environment
from headrace.schemas.errors import EnvironmentFailedError
from headrace.schemas.scenarios import Scenario


@dataclasses.dataclass(frozen=True)
class DQNTraining:
    """How DQN trains in an environment; the steps asked for set its `epsilon_steps` and `learning_rate_steps`."""

    config: dqn.DQNConfig = dataclasses.field(default_factory=dqn.DQNConfig)
    environments: int = 64  # episodes at once
    learning_starts: int = 6_400  # steps before the first update
    updates_per_step: float = 1.0  # updates for every step of all episodes
    exploration_share: float = 0.1  # of the steps over which epsilon falls
    shadowed: bool = True  # whether rewards are less the rate rule's on the same trace, where there is one
    informed: bool = True  # whether the policy has the environment's features
    prior: bool = False  # whether it starts from the environment's rule

    def plain(self) -> "DQNTraining":
        """Return it without what a simulator offers beyond observations and rewards."""
        return dataclasses.replace(self, informed=False, prior=False, shadowed=False)

    def without_wait(self) -> "DQNTraining":
        """Return it with updates from the first batch on, so that a short run costs a step what a long one does."""
        return dataclasses.replace(self, learning_starts=self.config.batch_size)

    def train(
        self, environment: str, seed: int, steps: int, follow: Follow, scenarios: Sequence[Scenario] = ()
    ) -> Trained:
        """Train in an environment for at least `steps` steps.

        Raises EnvironmentFailedError where actions are continuous.
        """
        environment_seed, seed, rng = seeds(seed)
        made = training_environment(
            environment, self.environments, environment_seed, shadow=self.shadowed, scenarios=scenarios
        )
        if made.bounds is not None:
            raise EnvironmentFailedError(
                f"{environment} has continuous actions, and DQN learns discrete ones only: use ppo"
            )
        state = self._begun(made, seed, steps)
        memory, window = Memory(state.config, made.width), NStepWindow(state.config.n_step, state.config.discount)
        curve, guide, taken, metrics = follow(made), Guide(made.count, made.rules), 0, dict[str, float]()
        while taken < steps:
            obs, action = made.obs, _actions(made, state, guide, rng, taken)
            step = made.step(action)
            curve.add(step)
            done = step.terminated | step.truncated
            guide.ended(done)
            reward = step.reward if step.shadow is None else step.reward - step.shadow
            for batch in window.push(Batch(obs, action, reward, step.next_obs, step.terminated), done):
                memory.add(batch)
            taken += made.count
            wanted = int((taken - self.learning_starts) / made.count * self.updates_per_step)
            while state.updates < wanted:
                state, metrics = memory.update(state)
            state = curve.mark(taken, metrics, state, state.updates, dqn.policy_arrays)
        return Trained(dqn.policy_arrays(state), taken, state.updates, curve.finish())

    def _begun(self, made: TrainingEnvironment, seed: int, steps: int) -> dqn.DQNState:
        updates = int((steps - self.learning_starts) / self.environments * self.updates_per_step)
        epsilon_steps = int(steps * self.exploration_share)
        config = dataclasses.replace(self.config, learning_rate_steps=max(1, updates), epsilon_steps=epsilon_steps)
        features, prior = made.features if self.informed else None, made.prior if self.prior else None
        return dqn.init(config, made.width, made.actions, seed, features=features, prior=prior)


def _actions(
    made: TrainingEnvironment, state: dqn.DQNState, guide: Guide, rng: np.random.Generator, taken: int
) -> np.ndarray:
    """Act epsilon-greedily: int64[N]."""
    greedy, config = dqn.greedy(state, made.obs), state.config
    explores = rng.random(made.count) < dqn.exploration_at(config, taken)
    other = rng.integers(made.actions, size=made.count)
    other = guide.guided(other, made.obs, config.explore_rule, config.explore_share, rng)
    return np.where(explores, other, greedy)
