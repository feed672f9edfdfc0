"""Deep Q-learning for a stream that never ends: Double, dueling, centred rewards, averaged weights.

`init` makes a state, `update` takes it one batch further. Nothing here draws from global random
state; on one torch thread (`torch.set_num_threads(1)`, the process's business) equal seeds and equal
batches give equal bits.

Sources: Mnih et al. (2015), "Human-level control through deep reinforcement learning"; van Hasselt
et al. (2016) and Wang et al. (2016) for Double and dueling; Naik et al. (2024), "Reward Centering";
Polyak, Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging".
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from headrace.learners.acting import OBSERVATION_MEAN, OBSERVATION_SCALE, epsilon_at
from headrace.learners.losses import double_q_learning, squared_error
from headrace.learners.networks import (
    NetworkShape,
    activations,
    arrays_from_parameters,
    initial_parameters,
    parameter_gradient,
    parameters_from_arrays,
    q_head,
    q_values,
    split_parameters,
)
from headrace.learners.replay import Batch
from headrace.schemas.errors import LearnerDivergedError

_VECTORS = ("parameters", "target", "averaged", "first_moment", "second_moment")
# A constant input carries no news: a scale this small would only amplify its rounding.
_MINIMAL_SCALE = 1e-3


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
    """

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

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        object.__setattr__(self, "hidden", tuple(self.hidden))  # JSON gives a list
        shares = ("discount", "polyak", "averaging", "reward_mean_rate", "epsilon_start", "epsilon_end")
        for name in shares:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        positive = ("batch_size", "replay_capacity", "learning_rate", "gradient_norm_max", "loss_limit")
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, eq=False)
class DQNState:
    """All that learning goes on from. The vectors are float32[P], the observation ones float64[D].

    Attributes:
        config: the hyper-parameters.
        shape: the network's sizes.
        parameters: online weights.
        target: weights that are bootstrapped from.
        averaged: weights that act.
        first_moment: Adam's mean gradient.
        second_moment: Adam's mean squared gradient.
        observation_rows: rows that the normaliser has seen.
        observation_mean: their mean.
        observation_square: their sum of squared deviations from it.
        reward_mean: running mean reward.
        updates: updates done.
        rng: for drawing from replay; it advances in place.
    """

    config: DQNConfig
    shape: NetworkShape
    parameters: torch.Tensor
    target: torch.Tensor
    averaged: torch.Tensor
    first_moment: torch.Tensor
    second_moment: torch.Tensor
    observation_rows: int
    observation_mean: np.ndarray
    observation_square: np.ndarray
    reward_mean: float
    updates: int
    rng: np.random.Generator

    @property
    def observation_scale(self) -> np.ndarray:
        """Standard deviation of each input, float64[D]; 1 before the first update."""
        if not self.observation_rows:
            return np.ones_like(self.observation_mean)
        deviation = np.sqrt(self.observation_square / self.observation_rows)
        return np.where(deviation > _MINIMAL_SCALE, deviation, 1.0)


def init(config: DQNConfig, observation_width: int, actions: int, seed: int) -> DQNState:
    """A state before any update; the seed fixes the weights and the draws from replay.

    Args:
        config: the hyper-parameters.
        observation_width: D.
        actions: A.
        seed: any non-negative int.
    """
    weights_seed, replay_seed = np.random.SeedSequence(seed).spawn(2)
    shape = NetworkShape(observation_width, config.hidden, actions)
    parameters = initial_parameters(shape, np.random.default_rng(weights_seed))
    return DQNState(
        config=config,
        shape=shape,
        parameters=parameters,
        target=parameters.clone(),
        averaged=parameters.clone(),
        first_moment=torch.zeros_like(parameters),
        second_moment=torch.zeros_like(parameters),
        observation_rows=0,
        observation_mean=np.zeros(observation_width),
        observation_square=np.zeros(observation_width),
        reward_mean=0.0,
        updates=0,
        rng=np.random.default_rng(replay_seed),
    )


def update(state: DQNState, batch: Batch) -> tuple[DQNState, dict[str, float]]:
    """One step of gradient descent.

    The given state is consumed: the returned one owns its tensors, which are overwritten in place.
    After an error it is untouched and good.

    Args:
        state: from `init`, `update` or `state_from_arrays`.
        batch: B transitions, usually `buffer.sample(state.rng, config.batch_size)`.

    Returns:
        The next state, and metrics: `loss` (mean, half squared), `q_mean` (of the actions taken,
        centred), `td_abs` (mean absolute error), `grad_norm` (before shortening).

    Raises:
        LearnerDivergedError: the loss or the gradient is not finite, or the loss is beyond its limit.
    """
    following = _with_statistics(state, batch)
    gradient, metrics = _gradient(following, batch)
    _require_finite(metrics, following)
    _descend(following, gradient, metrics["grad_norm"])
    return dataclasses.replace(following, updates=state.updates + 1), metrics


def learning_rate_at(config: DQNConfig, updates: int) -> float:
    """Adam's step size for the update after `updates` others."""
    ramp = min(1.0, updates / max(1, config.learning_rate_steps))
    return config.learning_rate + (config.learning_rate_final - config.learning_rate) * ramp


def exploration_at(config: DQNConfig, step: int) -> float:
    """Epsilon after `step` environment steps of all agents together."""
    return epsilon_at(step, config.epsilon_start, config.epsilon_end, config.epsilon_steps)


def policy_arrays(state: DQNState) -> dict[str, np.ndarray]:
    """What acts: the averaged weights and the normaliser, float32, for `acting.Policy`."""
    return arrays_from_parameters(state.averaged, state.shape) | {
        OBSERVATION_MEAN: state.observation_mean.astype(np.float32),
        OBSERVATION_SCALE: state.observation_scale.astype(np.float32),
    }


def state_to_arrays(state: DQNState) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The state as arrays and JSON-able metadata, for `checkpoint.pack`; the arrays are copies."""
    arrays = {
        f"{vector}/{name}": array
        for vector in _VECTORS
        for name, array in arrays_from_parameters(getattr(state, vector), state.shape).items()
    }
    arrays["observation_mean"] = state.observation_mean.copy()
    arrays["observation_square"] = state.observation_square.copy()
    meta: dict[str, Any] = {
        "algorithm": "dqn",
        "config": dataclasses.asdict(state.config),
        "observation_width": state.shape.observation_width,
        "actions": state.shape.actions,
        "observation_rows": state.observation_rows,
        "reward_mean": state.reward_mean,
        "updates": state.updates,
        "rng": _generator_to_meta(state.rng),
    }
    return arrays, meta


def state_from_arrays(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> DQNState:
    """The inverse of `state_to_arrays`: training goes on to identical weights.

    Raises:
        ValueError: the metadata is not of this algorithm, or the arrays don't fit it.
    """
    if meta.get("algorithm") != "dqn":
        raise ValueError(f"expected a checkpoint of algorithm 'dqn', found {meta.get('algorithm')!r}")
    config = DQNConfig(**meta["config"])
    shape = NetworkShape(meta["observation_width"], config.hidden, meta["actions"])
    return DQNState(
        config=config,
        shape=shape,
        **{vector: parameters_from_arrays(_below(arrays, f"{vector}/"), shape) for vector in _VECTORS},
        observation_rows=meta["observation_rows"],
        observation_mean=arrays["observation_mean"].copy(),
        observation_square=arrays["observation_square"].copy(),
        reward_mean=meta["reward_mean"],
        updates=meta["updates"],
        rng=_generator_from_meta(meta["rng"]),
    )


def _with_statistics(state: DQNState, batch: Batch) -> DQNState:
    """The state with the reward mean, and early on the normaliser, moved on by the batch."""
    # The rate 1/n of a plain mean at first, so that the start value 0 has no weight.
    rate = max(state.config.reward_mean_rate, 1.0 / (state.updates + 1))
    batch_mean = float(batch.reward.mean(dtype=np.float64))
    reward_mean = state.reward_mean + rate * (batch_mean - state.reward_mean)
    if state.updates >= state.config.normaliser_updates:
        return dataclasses.replace(state, reward_mean=reward_mean)
    # Chan, Golub, LeVeque (1983): merging two samples' means and squares.
    rows = len(batch.obs)
    total = state.observation_rows + rows
    mean = batch.obs.mean(axis=0, dtype=np.float64)
    square = np.square(batch.obs - mean).sum(axis=0)
    delta = mean - state.observation_mean
    return dataclasses.replace(
        state,
        reward_mean=reward_mean,
        observation_rows=total,
        observation_mean=state.observation_mean + delta * (rows / total),
        observation_square=state.observation_square
        + square
        + np.square(delta) * (state.observation_rows * rows / total),
    )


def _gradient(state: DQNState, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss's gradient, float32[P], and the metrics."""
    config = state.config
    centre = state.reward_mean if config.centre_rewards else 0.0
    online = split_parameters(state.parameters, state.shape)
    next_obs = _normalised(state, batch.next_obs)
    given = activations(online, _normalised(state, batch.obs))
    q_tm1 = q_head(online, given[-1]).requires_grad_()
    a_tm1 = torch.from_numpy(batch.action)
    td_error = double_q_learning(
        q_tm1,
        a_tm1,
        r_t=torch.from_numpy(batch.reward) - centre,
        discount_t=torch.from_numpy(config.discount * ~batch.terminated).float(),
        q_t_value=q_values(split_parameters(state.target, state.shape), next_obs),
        q_t_selector=q_values(online, next_obs),
    )
    loss = squared_error(td_error).mean()
    (q_gradient,) = torch.autograd.grad(loss, q_tm1)
    gradient = parameter_gradient(online, given, q_gradient)
    taken = q_tm1.detach().gather(1, a_tm1.unsqueeze(1))
    return gradient, {
        "loss": loss.item(),
        "q_mean": taken.mean().item(),
        "td_abs": td_error.detach().abs().mean().item(),
        "grad_norm": gradient.norm().item(),
    }


def _normalised(state: DQNState, obs: np.ndarray) -> torch.Tensor:
    mean = state.observation_mean.astype(np.float32)
    return torch.from_numpy((obs - mean) * np.reciprocal(state.observation_scale).astype(np.float32))


def _require_finite(metrics: Mapping[str, float], state: DQNState) -> None:
    finite = math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
    if finite and metrics["loss"] <= state.config.loss_limit:
        return
    raise LearnerDivergedError(
        f"update {state.updates + 1} diverged: loss {metrics['loss']:g} (limit {state.config.loss_limit:g}), "
        f"gradient norm {metrics['grad_norm']:g}; look for bad observations or rewards in the batch, "
        "or lower learning_rate"
    )


@torch.no_grad()
def _descend(state: DQNState, gradient: torch.Tensor, norm: float) -> None:
    """Adam (Kingma, Ba 2015), then the target's and the average's step; all in place."""
    config, step = state.config, state.updates + 1
    if norm > config.gradient_norm_max:
        gradient = gradient * (config.gradient_norm_max / norm)
    state.first_moment.lerp_(gradient, 1.0 - config.adam_beta1)
    state.second_moment.mul_(config.adam_beta2).addcmul_(gradient, gradient, value=1.0 - config.adam_beta2)
    root = (state.second_moment / (1.0 - config.adam_beta2**step)).sqrt_().add_(config.adam_epsilon)
    rate = learning_rate_at(config, state.updates) / (1.0 - config.adam_beta1**step)
    state.parameters.addcdiv_(state.first_moment, root, value=-rate)
    state.target.lerp_(state.parameters, config.polyak)
    # A share of about 9/n at first, so that the average forgets the untrained weights
    # (as in TensorFlow's ExponentialMovingAverage with num_updates).
    state.averaged.lerp_(state.parameters, max(config.averaging, 9.0 / (9.0 + step)))


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _generator_to_meta(rng: np.random.Generator) -> dict[str, Any]:
    state = dict(rng.bit_generator.state)
    # 128-bit numbers go as text: not every JSON reader keeps them.
    return state | {"state": {name: str(value) for name, value in state["state"].items()}}


def _generator_from_meta(meta: Mapping[str, Any]) -> np.random.Generator:
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = dict(meta) | {"state": {k: int(value) for k, value in meta["state"].items()}}
    return rng
