"""How each algorithm trains in CloudService: what measurements justify, see docs/benchmarks.md."""

from collections.abc import Mapping
from typing import Final

from headrace.learners.dqn import DQNConfig
from headrace.learners.dqn.simulate import DQNTraining
from headrace.learners.ppo import PPOConfig
from headrace.learners.ppo.simulate import PPOTraining
from headrace.learners.simulate.training import TrainingConfig

PRESETS: Final[Mapping[str, TrainingConfig]] = {
    "ppo": PPOTraining(PPOConfig(hidden=(96, 96), activation="relu", minibatch_size=1_024, averaging=0.02)),
    "dqn": DQNTraining(DQNConfig(hidden=(128, 128)), exploration_share=0.3),
}
"""By algorithm; another trains here as it does anywhere."""
