"""How each algorithm trains in each environment: what measurements justify, see docs/benchmarks.md."""

from collections.abc import Mapping
from typing import Final

from headrace.learners.cloud import ENVIRONMENT_ID
from headrace.learners.dqn.dqn import DQNConfig
from headrace.learners.dqn.dqn_simulate import DQNTraining
from headrace.learners.ppo.ppo import PPOConfig
from headrace.learners.ppo.ppo_simulate import PPOTraining
from headrace.learners.simulate.training import Training
from headrace.learners.stream.algorithms import algorithm

_CLOUD: Final[Mapping[str, Training]] = {
    "ppo": PPOTraining(PPOConfig(hidden=(96, 96), activation="relu", minibatch_size=1_024, averaging=0.02)),
    "dqn": DQNTraining(DQNConfig(hidden=(128, 128)), exploration_share=0.3),
}


def training_for(name: str, environment: str) -> Training:
    """The configuration for an environment; what has none of its own gets one that suits small control tasks."""
    own = _CLOUD.get(name) if environment == ENVIRONMENT_ID else None
    return own or algorithm(name).simulated
