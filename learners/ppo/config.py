"""PPO's hyper-parameters."""

import dataclasses
from typing import ClassVar

from headrace.learners.nets.mlp import Activation
from headrace.learners.stream.training import require_ranges


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Every hyper-parameter. Plain values only, so `dataclasses.asdict` is JSON."""

    algorithm: ClassVar[str] = "ppo"

    hidden: tuple[int, ...] = (64, 64)  # widths of the policy's hidden layers
    critic_hidden: tuple[int, ...] = (64, 64)  # widths of the critic's
    activation: Activation = "tanh"  # of the hidden layers, or "relu"
    discount: float = 0.95  # gamma, per step
    gae_lambda: float = 0.9  # lambda of the advantages
    clip: float = 0.2  # how far a probability ratio's change pays
    epochs: int = 4  # passes over a rollout
    minibatch_size: int = 2_048  # rows per step of Adam
    learning_rate: float = 1e-3  # of the policy, at first; it falls linearly to 0 over `schedule_rows`
    critic_learning_rate: float = 2e-3  # of the critic, likewise
    schedule_rows: int = 4_096_000  # rows over which learning rates and entropy fall
    entropy: float = 0.01  # weight of the entropy at first; it falls linearly to 0
    normalise_advantages: bool = True  # to mean 0 and deviation 1 in each rollout
    kl_stop: float = 0.03  # epochs end when the policy has moved so far (mean KL, nats); 0 for never
    gradient_norm_max: float = 1.0  # longer gradients are clipped to this
    averaging: float = 1.0  # share of the weights that enters the averaged (acting) weights after a rollout
    normaliser_rows: int = 200_000  # rows that the observation normaliser reaches back; a plain mean of the first ones
    value_rate: float = 0.02  # share of a rollout's value statistics that enters the running ones
    log_std: float = -0.5  # of continuous actions, at first
    age_max: int = 4  # rows from a policy more than so many versions old are dropped
    importance_max: float = 2.0  # greatest importance weight of an aged row
    loss_limit: float = 1e6  # a loss above this counts as diverged

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("hidden", "critic_hidden"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives a list
        positive = ("clip", "epochs", "minibatch_size", "learning_rate", "critic_learning_rate", "schedule_rows")
        require_ranges(
            self,
            shares=("discount", "gae_lambda", "averaging", "value_rate"),
            positive=(*positive, "gradient_norm_max", "importance_max", "loss_limit"),
        )
        if min(self.entropy, self.kl_stop, self.age_max) < 0:
            raise ValueError(f"entropy, kl_stop and age_max must not be negative: {self}")
