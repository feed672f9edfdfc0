"""DQN's hyper-parameters and their schedules."""

import dataclasses
from typing import ClassVar, Final

from headrace.learners.acting import epsilon_at

ERRORS: Final = ("squared", "huber")


@dataclasses.dataclass(frozen=True)
class DQNConfig:
    """Every hyper-parameter. Plain values only, so `dataclasses.asdict` is JSON.

    The defaults are tuned for `headrace/CloudService-v0` and about 384,000 transitions, 150 updates
    for every 6,400 of them. The long exploration matters most: behind a gate the serving policy rarely
    changes, and a learner that sees only its greedy actions forgets what the others are worth.

    Attributes:
        hidden: widths of the hidden layers.
        discount: gamma, per step.
        batch_size: transitions per update.
        replay_capacity: transitions kept.
        learning_rate: Adam's step size at first.
        learning_rate_final: after `learning_rate_steps`, reached linearly.
        learning_rate_steps: length of that ramp in updates.
        adam_beta1: decay of the gradient's mean.
        adam_beta2: decay of the gradient's mean square.
        adam_epsilon: added to the root of the mean square.
        gradient_norm_max: longer gradients are shortened to this.
        polyak: share of the online weights that enters the target at each update.
        averaging: share of the online weights that enters the averaged (acting) weights.
        centre_rewards: subtract the running mean reward.
        reward_mean_rate: share of a batch's mean reward that enters the running mean.
        normaliser_updates: updates whose batches make the observation normaliser; then it is frozen.
        epsilon_start: exploration at the first step.
        epsilon_end: exploration after the ramp.
        epsilon_steps: length of the ramp in environment steps, all agents together.
        loss_limit: a loss above this counts as diverged.
        double: let the online weights choose the action that the target's price.
        error: "squared" or "huber"; with more than one quantile it is the quantiles' own.
        quantiles: quantiles of the return that stand for a value; 1 for its mean alone.
        n_step: steps that a transition's reward spans, where trajectories are at hand.
        priority: exponent of prioritised replay; 0 for uniform draws.
        priority_correction: exponent of its importance weights at first; it rises linearly to 1 over
            `learning_rate_steps`.
        potential: coefficients of a potential over the observation that shapes what is learned; () for none.
        explore_rule: a decision rule that a share of the exploration follows; "" for none.
        explore_share: that share.
    """

    algorithm: ClassVar[str] = "dqn"

    hidden: tuple[int, ...] = (64, 64)
    discount: float = 0.95
    batch_size: int = 512
    replay_capacity: int = 384_000
    learning_rate: float = 1e-3
    learning_rate_final: float = 1e-5
    learning_rate_steps: int = 9_000
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    gradient_norm_max: float = 10.0
    polyak: float = 0.005
    averaging: float = 5e-4
    centre_rewards: bool = True
    reward_mean_rate: float = 1e-3
    normaliser_updates: int = 1_000
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_steps: int = 384_000
    loss_limit: float = 1e6
    double: bool = True
    error: str = "squared"
    quantiles: int = 1
    n_step: int = 1
    priority: float = 0.0
    priority_correction: float = 0.4
    potential: tuple[float, ...] = ()
    explore_rule: str = ""
    explore_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        object.__setattr__(self, "hidden", tuple(self.hidden))  # JSON gives a list
        object.__setattr__(self, "potential", tuple(self.potential))
        shares = ("discount", "polyak", "averaging", "reward_mean_rate", "epsilon_start", "epsilon_end")
        for name in (*shares, "priority", "priority_correction", "explore_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        positive = ("batch_size", "replay_capacity", "learning_rate", "gradient_norm_max", "loss_limit")
        for name in (*positive, "quantiles", "n_step"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.error not in ERRORS:
            raise ValueError(f"error {self.error!r} is unknown; choose one of {', '.join(ERRORS)}")


def priority_correction_at(config: DQNConfig, updates: int) -> float:
    """Exponent of the importance weights for the update after `updates` others."""
    ramp = min(1.0, updates / max(1, config.learning_rate_steps))
    return config.priority_correction + (1.0 - config.priority_correction) * ramp


def learning_rate_at(config: DQNConfig, updates: int) -> float:
    """Adam's step size for the update after `updates` others."""
    ramp = min(1.0, updates / max(1, config.learning_rate_steps))
    return config.learning_rate + (config.learning_rate_final - config.learning_rate) * ramp


def exploration_at(config: DQNConfig, step: int) -> float:
    """Epsilon after `step` environment steps of all agents together."""
    return epsilon_at(step, config.epsilon_start, config.epsilon_end, config.epsilon_steps)
