"""PPO in a simulator: rollouts by the policy, each learned from once."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from headrace.learners import ppo
from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.simulate.curve import Curve, Follow, Trained, seeds
from headrace.learners.simulate.training_environments import TrainingEnvironment, training_environment
from headrace.schemas.scenarios import Scenario


@dataclasses.dataclass(frozen=True)
class PPOTraining:
    """How PPO trains in an environment; its `schedule_rows` is set to the steps asked for."""

    config: ppo.PPOConfig = dataclasses.field(default_factory=ppo.PPOConfig)
    environments: int = 256  # episodes at once
    rollout_steps: int = 20  # of each between two updates
    privileged: bool = True  # whether the critic sees what no agent does, where the environment tells
    informed: bool = True  # whether the policy has the environment's features and prior

    def plain(self) -> "PPOTraining":
        """Return it without what a simulator offers beyond observations and rewards."""
        return dataclasses.replace(self, informed=False, privileged=False)

    def without_wait(self) -> "PPOTraining":
        """Return it as it is: updates begin with the first rollout."""
        return self

    def train(
        self, environment: str, seed: int, steps: int, follow: Follow, scenarios: Sequence[Scenario] = ()
    ) -> Trained:
        """Train in an environment for at least `steps` steps."""
        environment_seed, seed, rng = seeds(seed)
        made = training_environment(
            environment, self.environments, environment_seed, privileged=self.privileged, scenarios=scenarios
        )
        state = ppo.init(
            dataclasses.replace(self.config, schedule_rows=steps),
            made.width,
            made.actions,
            seed,
            bounds=made.bounds,
            features=made.features if self.informed else None,
            prior=made.prior if self.informed else None,
            privileged_width=made.privileged_width,
        )
        curve = follow(made)
        while state.rows < steps:
            rollout = _rollout(made, ppo.behaviour_arrays(state), self.rollout_steps, rng, curve)
            state, metrics = ppo.update(state, rollout)
            state = curve.mark(state.rows, metrics, state, state.version, ppo.policy_arrays)
        return Trained(ppo.policy_arrays(state), state.rows, state.version, curve.finish())


def _rollout(
    made: TrainingEnvironment, arrays: dict[str, np.ndarray], steps: int, rng: np.random.Generator, curve: Curve
) -> ppo.Rollout:
    """T steps of all episodes by the policy."""
    policy: Policy | BoxPolicy = Policy(arrays) if made.bounds is None else BoxPolicy(arrays)
    columns: list[tuple[np.ndarray, ...]] = []
    unseen: list[tuple[np.ndarray | None, np.ndarray | None]] = []
    for _ in range(steps):
        obs, privileged = made.obs, made.privileged
        action, log_prob = policy.sample(obs, rng)
        step = made.step(action)
        curve.add(step)
        columns.append((obs, action, log_prob, step.reward, step.next_obs, step.terminated, step.truncated))
        unseen.append((privileged, step.next_privileged))
    before, after = (_stacked(column) for column in zip(*unseen, strict=True))
    seen = [np.stack(column) for column in zip(*columns, strict=True)]
    return ppo.Rollout(*seen, privileged=before, next_privileged=after)  # type: ignore[misc] # of seven columns


def _stacked(arrays: tuple[np.ndarray | None, ...]) -> np.ndarray | None:
    there = [array for array in arrays if array is not None]
    return np.stack(there) if there else None
