"""How each algorithm trains in each environment: what measurements justify, see docs/benchmarks.md."""

from collections.abc import Mapping
from typing import Final, Literal

from headrace.learners.cloud import ENVIRONMENT_ID
from headrace.learners.dqn.dqn import DQNConfig
from headrace.learners.ppo.ppo import PPOConfig
from headrace.learners.simulate.training import DQNTraining, PPOTraining, Training

Algorithm = Literal["ppo", "dqn"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("ppo", "dqn")

_CLOUD: Final[Mapping[Algorithm, Training]] = {
    "ppo": PPOTraining(PPOConfig(hidden=(96, 96), activation="relu", minibatch_size=1_024, averaging=0.02)),
    "dqn": DQNTraining(DQNConfig(hidden=(128, 128)), exploration_share=0.3),
}
_OTHERS: Final[Mapping[Algorithm, Training]] = {
    "ppo": PPOTraining(
        PPOConfig(
            discount=0.99,
            gae_lambda=0.95,
            epochs=8,
            minibatch_size=128,
            kl_stop=0.02,
            learning_rate=1e-3,
            critic_learning_rate=1e-3,
            normaliser_rows=20_000,
        ),
        environments=8,
        rollout_steps=128,
    ),
    "dqn": DQNTraining(
        DQNConfig(
            discount=0.99,
            batch_size=128,
            replay_capacity=50_000,
            learning_rate_final=1e-4,
            polyak=0.01,
            centre_rewards=False,
            averaging=0.01,
            epsilon_end=0.02,
        ),
        environments=8,
        learning_starts=1_000,
        updates_per_step=2.0,
        exploration_share=0.2,
    ),
}
_SPECIAL: Final[Mapping[tuple[str, Algorithm], Training]] = {}


def training_for(algorithm: Algorithm, environment: str) -> Training:
    """The configuration for an environment; what has none of its own gets one that suits small control tasks."""
    own = _SPECIAL.get((environment, algorithm))
    return own or (_CLOUD if environment == ENVIRONMENT_ID else _OTHERS)[algorithm]
