"""PPO's configuration, rollouts and state."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from headrace.learners.acting import (
    ACTION_HIGH,
    ACTION_LOW,
    FEATURES,
    LOG_STD,
    OBSERVATION_MEAN,
    OBSERVATION_SCALE,
    TANH,
)
from headrace.learners.nets.mlp import Layers, MLPShape, arrays_from_mlp, initial_mlp, split_mlp
from headrace.learners.nets.normaliser import Moments, no_moments
from headrace.learners.ppo.policy_gradient import LOG_STD_MAX, LOG_STD_MIN, Categorical, DiagonalGaussian
from headrace.learners.prior import RulePrior, prior_to_arrays


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Every hyper-parameter. Plain values only, so `dataclasses.asdict` is JSON.

    Attributes:
        hidden: widths of the policy's hidden layers.
        critic_hidden: widths of the critic's.
        activation: of the hidden layers, "tanh" or "relu".
        discount: gamma, per step.
        gae_lambda: lambda of the advantages.
        clip: how far a probability ratio's change pays.
        epochs: passes over a rollout.
        minibatch_size: rows per step of Adam.
        learning_rate: of the policy, at first; it falls linearly to 0 over `schedule_rows`.
        critic_learning_rate: of the critic, likewise.
        schedule_rows: rows over which learning rates and entropy fall.
        entropy: weight of the entropy at first; it falls linearly to 0.
        normalise_advantages: to mean 0 and deviation 1 in each rollout.
        kl_stop: a rollout's epochs end when the policy has moved so far (mean KL, nats); 0 for never.
        gradient_norm_max: longer gradients are shortened to this.
        averaging: share of the weights that enters the averaged (acting) weights after a rollout.
        normaliser_rows: rows that make the observation normaliser; then it is frozen.
        value_rate: share of a rollout's value statistics that enters the running ones.
        log_std: of continuous actions, at first.
        age_max: rows from a policy more than so many versions old are dropped.
        importance_max: greatest importance weight of an aged row.
        loss_limit: a loss above this counts as diverged.
    """

    algorithm: ClassVar[str] = "ppo"

    hidden: tuple[int, ...] = (64, 64)
    critic_hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    discount: float = 0.95
    gae_lambda: float = 0.9
    clip: float = 0.2
    epochs: int = 4
    minibatch_size: int = 2_048
    learning_rate: float = 1e-3
    critic_learning_rate: float = 2e-3
    schedule_rows: int = 4_096_000
    entropy: float = 0.01
    normalise_advantages: bool = True
    kl_stop: float = 0.03
    gradient_norm_max: float = 1.0
    averaging: float = 1.0
    normaliser_rows: int = 200_000
    value_rate: float = 0.02
    log_std: float = -0.5
    age_max: int = 4
    importance_max: float = 2.0
    loss_limit: float = 1e6

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("hidden", "critic_hidden"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives a list
        for name in ("discount", "gae_lambda", "averaging", "value_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        positive = ("clip", "epochs", "minibatch_size", "learning_rate", "critic_learning_rate", "schedule_rows")
        for name in (*positive, "gradient_norm_max", "importance_max", "loss_limit"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if min(self.entropy, self.kl_stop, self.age_max) < 0:
            raise ValueError(f"entropy, kl_stop and age_max must not be negative: {self}")


class Rollout(NamedTuple):
    """T steps of N trajectories; row [t, n] is followed by [t + 1, n] unless its episode ends there.

    Attributes:
        obs: float32[T, N, D].
        action: int64[T, N], or float32[T, N, A] as drawn.
        log_prob: float32[T, N], of the action, by the policy that took it.
        reward: float32[T, N].
        next_obs: float32[T, N, D], what truly followed, also where an episode was cut off.
        terminated: bool[T, N].
        truncated: bool[T, N].
        version: int64[T, N], `PPOState.version` that took the action; None where all are the state's own.
        present: bool[T, N], false where a trajectory is shorter than T; None where all are there.
        privileged: float32[T, N, P], what the critic alone sees in training; None for nothing.
        next_privileged: float32[T, N, P].
    """

    obs: np.ndarray
    action: np.ndarray
    log_prob: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    version: np.ndarray | None = None
    present: np.ndarray | None = None
    privileged: np.ndarray | None = None
    next_privileged: np.ndarray | None = None


class Net(NamedTuple):
    """One network in training: float32[P] each, but for its shape and Adam's steps."""

    shape: MLPShape
    parameters: torch.Tensor
    first_moment: torch.Tensor
    second_moment: torch.Tensor
    steps: int

    def clone(self) -> "Net":
        """A copy whose vectors may be overwritten."""
        return Net(
            self.shape, self.parameters.clone(), self.first_moment.clone(), self.second_moment.clone(), self.steps
        )


@dataclasses.dataclass(frozen=True, eq=False)
class PPOState:
    """All that learning goes on from.

    Attributes:
        config: the hyper-parameters.
        policy: the policy's network; for continuous actions its vector ends in their log deviations.
        critic: the value's network.
        averaged: float32[P], the policy's weights that act.
        continuous: whether actions are vectors.
        features: float32[D, K], linear features, or None.
        prior: the rule that the logits start from, or None.
        bounds: float32[2, A], lowest and highest continuous action, or None.
        inputs: moments of the observations.
        privileged: moments of what the critic alone sees.
        value_mean: what the critic's output 0 stands for.
        value_scale: what 1 more of it stands for.
        rows: rows learned from.
        version: updates done; the version that acts until the next.
        rng: for the order of the rows; it advances in place.
    """

    config: PPOConfig
    policy: Net
    critic: Net
    averaged: torch.Tensor
    continuous: bool
    features: np.ndarray | None
    prior: RulePrior | None
    bounds: np.ndarray | None
    inputs: Moments
    privileged: Moments
    value_mean: float
    value_scale: float
    rows: int
    version: int
    rng: np.random.Generator


def init(
    config: PPOConfig,
    observation_width: int,
    actions: int,
    seed: int,
    *,
    bounds: np.ndarray | None = None,
    features: np.ndarray | None = None,
    prior: RulePrior | None = None,
    privileged_width: int = 0,
) -> PPOState:
    """A state before any update; the seed fixes the weights and the order of rows.

    Args:
        config: the hyper-parameters.
        observation_width: D.
        actions: A, number of discrete actions or dimensions of continuous ones.
        seed: any non-negative int.
        bounds: float32[2, A], lowest and highest continuous action; None where actions are discrete.
        features: float32[D, K], sums of the observation that the networks see beside it.
        prior: a rule that the logits start from; discrete actions only.
        privileged_width: P, what the critic alone sees.
    """
    policy_seed, critic_seed, order_seed = np.random.SeedSequence(seed).spawn(3)
    width = observation_width + (0 if features is None else features.shape[1])
    head = "logits" if bounds is None else "mean"
    activation: Any = config.activation
    policy = MLPShape(width, config.hidden, actions, head, activation)
    critic = MLPShape(width + privileged_width, config.critic_hidden, 1, "value", activation)
    weights = initial_mlp(policy, np.random.default_rng(policy_seed), 0.01)
    if bounds is not None:
        weights = torch.cat([weights, torch.full((actions,), config.log_std)])
    return PPOState(
        config=config,
        policy=_net(policy, weights),
        critic=_net(critic, initial_mlp(critic, np.random.default_rng(critic_seed), 0.01)),
        averaged=weights.clone(),
        continuous=bounds is not None,
        features=features,
        prior=prior,
        bounds=bounds,
        inputs=no_moments(observation_width),
        privileged=no_moments(privileged_width),
        value_mean=0.0,
        value_scale=1.0,
        rows=0,
        version=0,
        rng=np.random.default_rng(order_seed),
    )


def _net(shape: MLPShape, parameters: torch.Tensor) -> Net:
    return Net(shape, parameters, torch.zeros_like(parameters), torch.zeros_like(parameters), 0)


def progress_of(state: PPOState) -> float:
    """How far the schedules are, 0 to 1."""
    return min(1.0, state.rows / state.config.schedule_rows)


def policy_layers(flat: torch.Tensor, shape: MLPShape) -> tuple[Layers, torch.Tensor | None]:
    """Views of a policy's vector: its layers, and its log deviations float32[A] if actions are continuous."""
    log_std = flat[shape.size :]
    return split_mlp(flat[: shape.size], shape), log_std if len(log_std) else None


def distribution(
    outputs: np.ndarray, prior: np.ndarray | None, log_std: np.ndarray | None, action: np.ndarray
) -> Categorical | DiagonalGaussian:
    """Of the actions that B rows of the policy's outputs took."""
    if log_std is not None:
        return DiagonalGaussian(outputs, log_std, action)
    return Categorical(outputs if prior is None else outputs + prior, action)


def policy_arrays(state: PPOState) -> dict[str, np.ndarray]:
    """What acts: the averaged weights and all that goes with them, for `acting.load_policy`."""
    arrays = _weights_to_arrays(state.policy._replace(parameters=state.averaged))
    arrays |= {
        OBSERVATION_MEAN: state.inputs.mean.astype(np.float32),
        OBSERVATION_SCALE: state.inputs.scale.astype(np.float32),
    }
    if state.config.activation == "tanh":
        arrays[TANH] = np.ones(1, np.int8)
    return arrays | given_arrays(state)


def behaviour_arrays(state: PPOState) -> dict[str, np.ndarray]:
    """As `policy_arrays`, of the weights in training: what rollouts must be drawn by."""
    return policy_arrays(dataclasses.replace(state, averaged=state.policy.parameters))


def given_arrays(state: PPOState) -> dict[str, np.ndarray]:
    """Features, prior and bounds, which are given and not learned."""
    arrays = {} if state.features is None else {FEATURES: state.features}
    if state.bounds is not None:
        arrays |= {ACTION_LOW: state.bounds[0], ACTION_HIGH: state.bounds[1]}
    return arrays | prior_to_arrays(state.prior)


def _weights_to_arrays(net: Net) -> dict[str, np.ndarray]:
    arrays = arrays_from_mlp(net.parameters[: net.shape.size], net.shape)
    log_std = net.parameters[net.shape.size :].numpy()
    return arrays | ({LOG_STD: np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)} if len(log_std) else {})
