"""DQN's hyper-parameters and their schedules."""

import dataclasses
from typing import ClassVar, Final

from headrace.learners.acting import epsilon_at
from headrace.learners.stream.training import require_ranges

ERRORS: Final = ("squared", "huber")


@dataclasses.dataclass(frozen=True)
class DQNConfig:
    """Every hyper-parameter. Plain values only, so `dataclasses.asdict` is JSON.

    The defaults are tuned for `headrace/CloudService-v0` and about 384,000 transitions, 150 updates
    for every 6,400 of them. The long exploration matters most: behind a gate the serving policy rarely
    changes, and a learner that sees only its greedy actions forgets what the others are worth.
    """

    algorithm: ClassVar[str] = "dqn"

    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers
    discount: float = 0.95  # gamma, per step
    batch_size: int = 512  # transitions per update
    replay_capacity: int = 384_000  # transitions kept
    learning_rate: float = 1e-3  # Adam's step size at first
    learning_rate_final: float = 1e-5  # after `learning_rate_steps`, reached linearly
    learning_rate_steps: int = 9_000  # length of that ramp in updates
    adam_beta1: float = 0.9  # decay of the gradient's mean
    adam_beta2: float = 0.999  # decay of the gradient's mean square
    adam_epsilon: float = 1e-8  # added to the root of the mean square
    gradient_norm_max: float = 10.0  # longer gradients are clipped to this
    polyak: float = 0.005  # share of the online weights that enters the target at each update
    averaging: float = 5e-4  # share of the online weights that enters the averaged (acting) weights
    centre_rewards: bool = True  # learn values less the running mean reward's, which an episode's end has too
    reward_mean_rate: float = 1e-3  # share of a batch's mean reward that enters the running mean
    normaliser_updates: int = 1_000  # updates that move the observation normaliser; later ones move it slowly; 0: none
    epsilon_start: float = 1.0  # exploration at the first step
    epsilon_end: float = 0.05  # exploration after the ramp
    epsilon_steps: int = 384_000  # length of the ramp in environment steps, all agents together
    loss_limit: float = 1e6  # a loss above this, in squares of the networks' unit, counts as diverged
    double: bool = True  # let the online weights choose the action that the target's price
    error: str = "squared"  # or "huber"; with more than one quantile it is the quantiles' own
    quantiles: int = 1  # of the return that stand for a value; 1 for its mean alone
    n_step: int = 1  # steps that a transition's reward spans, where trajectories are at hand
    priority: float = 0.0  # exponent of prioritised replay; 0 for uniform draws
    priority_correction: float = 0.4  # exponent of its importance weights at first; 1 after `learning_rate_steps`
    potential: tuple[float, ...] = ()  # coefficients over the observation that shape what is learned; () for none
    explore_rule: str = ""  # a decision rule that a share of the exploration follows; "" for none
    explore_share: float = 0.0  # that share

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        object.__setattr__(self, "hidden", tuple(self.hidden))  # JSON gives a list
        object.__setattr__(self, "potential", tuple(self.potential))
        shares = ("discount", "polyak", "averaging", "reward_mean_rate", "epsilon_start", "epsilon_end")
        positive = ("batch_size", "replay_capacity", "learning_rate", "gradient_norm_max", "loss_limit")
        require_ranges(
            self,
            shares=(*shares, "priority", "priority_correction", "explore_share"),
            positive=(*positive, "quantiles", "n_step"),
        )
        if self.error not in ERRORS:
            raise ValueError(f"error {self.error!r} is unknown; choose one of {', '.join(ERRORS)}")


def priority_correction_at(config: DQNConfig, updates: int) -> float:
    """Exponent of the importance weights for the update after `updates` others."""
    return config.priority_correction + (1.0 - config.priority_correction) * _ramp(config, updates)


def learning_rate_at(config: DQNConfig, updates: int) -> float:
    """Adam's step size for the update after `updates` others."""
    return config.learning_rate + (config.learning_rate_final - config.learning_rate) * _ramp(config, updates)


def _ramp(config: DQNConfig, updates: int) -> float:
    return min(1.0, updates / max(1, config.learning_rate_steps))


def exploration_at(config: DQNConfig, step: int) -> float:
    """Epsilon after `step` environment steps of all agents together."""
    return epsilon_at(step, config.epsilon_start, config.epsilon_end, config.epsilon_steps)
