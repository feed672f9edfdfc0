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

from headrace.learners.acting import FEATURES, OBSERVATION_MEAN, OBSERVATION_SCALE, network_inputs
from headrace.learners.adam import adam_step, shortened
from headrace.learners.checkpoint import generator_from_meta, generator_to_meta
from headrace.learners.dqn_config import DQNConfig, exploration_at, learning_rate_at, priority_correction_at
from headrace.learners.losses import double_q_learning, huber_error, quantile_huber, squared_error
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
from headrace.learners.normaliser import Moments, merged, no_moments
from headrace.learners.prior import RulePrior, prior_from_arrays, prior_to_arrays
from headrace.learners.replay import Batch
from headrace.learners.shaping import shaping
from headrace.schemas.errors import LearnerDivergedError

__all__ = [
    "DQNConfig",
    "DQNState",
    "exploration_at",
    "greedy",
    "init",
    "learning_rate_at",
    "policy_arrays",
    "priority_correction_at",
    "state_from_arrays",
    "state_to_arrays",
    "update",
    "update_prioritised",
]

_VECTORS = ("parameters", "target", "averaged", "first_moment", "second_moment")
_ERRORS = {"squared": squared_error, "huber": huber_error}


@dataclasses.dataclass(frozen=True, eq=False)
class DQNState:
    """All that learning goes on from. The vectors are float32[P].

    Attributes:
        config: the hyper-parameters.
        shape: the network's sizes.
        parameters: online weights.
        target: weights that are bootstrapped from.
        averaged: weights that act.
        first_moment: Adam's mean gradient.
        second_moment: Adam's mean squared gradient.
        inputs: moments of the observations, of which the normaliser is made.
        reward_mean: running mean reward.
        updates: updates done.
        rng: for drawing from replay; it advances in place.
        features: float32[D, K], sums of the observation that the network sees beside it, or None.
        prior: a rule's values, to which the network adds, or None.
    """

    config: DQNConfig
    shape: NetworkShape
    parameters: torch.Tensor
    target: torch.Tensor
    averaged: torch.Tensor
    first_moment: torch.Tensor
    second_moment: torch.Tensor
    inputs: Moments
    reward_mean: float
    updates: int
    rng: np.random.Generator
    features: np.ndarray | None = None
    prior: RulePrior | None = None


def init(
    config: DQNConfig,
    observation_width: int,
    actions: int,
    seed: int,
    *,
    features: np.ndarray | None = None,
    prior: RulePrior | None = None,
) -> DQNState:
    """A state before any update; the seed fixes the weights and the draws from replay.

    Args:
        config: the hyper-parameters.
        observation_width: D.
        actions: A.
        seed: any non-negative int.
        features: float32[D, K], linear features.
        prior: a rule whose values the network adds to.
    """
    weights_seed, replay_seed = np.random.SeedSequence(seed).spawn(2)
    width = observation_width + (0 if features is None else features.shape[1])
    shape = NetworkShape(width, config.hidden, actions, config.quantiles)
    parameters = initial_parameters(shape, np.random.default_rng(weights_seed))
    return DQNState(
        config=config,
        shape=shape,
        parameters=parameters,
        target=parameters.clone(),
        averaged=parameters.clone(),
        first_moment=torch.zeros_like(parameters),
        second_moment=torch.zeros_like(parameters),
        inputs=no_moments(observation_width),
        reward_mean=0.0,
        updates=0,
        rng=np.random.default_rng(replay_seed),
        features=features,
        prior=prior,
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
    following, metrics, _ = update_prioritised(state, batch, None)
    return following, metrics


def update_prioritised(
    state: DQNState, batch: Batch, weight: np.ndarray | None
) -> tuple[DQNState, dict[str, float], np.ndarray]:
    """As `update`, with each row's loss weighted; for prioritised replay.

    Args:
        state: as in `update`.
        batch: B transitions.
        weight: float32[B], importance weights, or None.

    Returns:
        As `update`, and the absolute errors, float32[B]: the rows' new priorities.
    """
    following = _with_statistics(state, batch)
    gradient, metrics, sizes = _gradient(following, batch, weight)
    _require_finite(metrics, following)
    _descend(following, gradient, metrics["grad_norm"])
    return dataclasses.replace(following, updates=state.updates + 1), metrics, sizes


def greedy(state: DQNState, obs: np.ndarray) -> np.ndarray:
    """The online weights' greedy actions: float32[B, D] -> int64[B]."""
    with torch.no_grad():
        outputs = q_values(split_parameters(state.parameters, state.shape), _normalised(state, obs))
        actions: np.ndarray = _valued(state, outputs, obs).argmax(dim=1).numpy()
    return actions


def policy_arrays(state: DQNState) -> dict[str, np.ndarray]:
    """What acts: the averaged weights and the normaliser, float32, for `acting.Policy`."""
    arrays = arrays_from_parameters(state.averaged, state.shape) | {
        OBSERVATION_MEAN: state.inputs.mean.astype(np.float32),
        OBSERVATION_SCALE: state.inputs.scale.astype(np.float32),
    }
    return arrays | _given_arrays(state)


def _given_arrays(state: DQNState) -> dict[str, np.ndarray]:
    """Features and prior, which are given and not learned."""
    features = {} if state.features is None else {FEATURES: state.features}
    return features | prior_to_arrays(state.prior)


def state_to_arrays(state: DQNState) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The state as arrays and JSON-able metadata, for `checkpoint.pack`; the arrays are copies."""
    arrays = {
        f"{vector}/{name}": array
        for vector in _VECTORS
        for name, array in arrays_from_parameters(getattr(state, vector), state.shape).items()
    }
    arrays |= {"observation_mean": state.inputs.mean.copy(), "observation_square": state.inputs.square.copy()}
    arrays |= _given_arrays(state)
    meta: dict[str, Any] = {
        "algorithm": "dqn",
        "config": dataclasses.asdict(state.config),
        "observation_width": state.shape.observation_width,
        "actions": state.shape.actions,
        "observation_rows": state.inputs.rows,
        "reward_mean": state.reward_mean,
        "updates": state.updates,
        "rng": generator_to_meta(state.rng),
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
    shape = NetworkShape(meta["observation_width"], config.hidden, meta["actions"], config.quantiles)
    features = arrays.get(FEATURES)
    width = shape.observation_width if features is None else len(features)
    return DQNState(
        config=config,
        shape=shape,
        **{vector: parameters_from_arrays(_below(arrays, f"{vector}/"), shape) for vector in _VECTORS},
        inputs=Moments(
            meta["observation_rows"], arrays["observation_mean"].copy(), arrays["observation_square"].copy()
        ),
        reward_mean=meta["reward_mean"],
        updates=meta["updates"],
        rng=generator_from_meta(meta["rng"]),
        features=features,
        prior=prior_from_arrays(arrays, width, shape.actions),
    )


def _with_statistics(state: DQNState, batch: Batch) -> DQNState:
    """The state with the reward mean, and early on the normaliser, moved on by the batch."""
    # The rate 1/n of a plain mean at first, so that the start value 0 has no weight.
    rate = max(state.config.reward_mean_rate, 1.0 / (state.updates + 1))
    batch_mean = float((batch.reward / _spans(state.config, batch)[1]).mean(dtype=np.float64))
    reward_mean = state.reward_mean + rate * (batch_mean - state.reward_mean)
    if state.updates >= state.config.normaliser_updates:
        return dataclasses.replace(state, reward_mean=reward_mean)
    inputs = merged(state.inputs, batch.obs)
    return dataclasses.replace(state, reward_mean=reward_mean, inputs=inputs)


def _gradient(
    state: DQNState, batch: Batch, weight: np.ndarray | None
) -> tuple[torch.Tensor, dict[str, float], np.ndarray]:
    """The loss's gradient, float32[P], the metrics, and the absolute errors, float32[B]."""
    online = split_parameters(state.parameters, state.shape)
    given = activations(online, _normalised(state, batch.obs))
    outputs = q_head(online, given[-1]).requires_grad_()
    a_tm1 = torch.from_numpy(batch.action)
    loss_rows, td_error = _losses(state, batch, outputs, a_tm1, online)
    loss = (loss_rows if weight is None else loss_rows * torch.from_numpy(weight)).mean()
    (q_gradient,) = torch.autograd.grad(loss, outputs)
    gradient = parameter_gradient(online, given, q_gradient)
    taken = _valued(state, outputs.detach(), batch.obs).gather(1, a_tm1.unsqueeze(1))
    sizes = td_error.detach().abs()
    metrics = {
        "loss": loss.item(),
        "q_mean": taken.mean().item(),
        "td_abs": sizes.mean().item(),
        "grad_norm": gradient.norm().item(),
    }
    return gradient, metrics, sizes.numpy()


def _losses(
    state: DQNState, batch: Batch, outputs: torch.Tensor, a_tm1: torch.Tensor, online: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and temporal-difference error of each row, float32[B] each."""
    config = state.config
    next_obs = _normalised(state, batch.next_obs)
    next_outputs = q_values(split_parameters(state.target, state.shape), next_obs)
    selector = _valued(state, q_values(online, next_obs) if config.double else next_outputs, batch.next_obs)
    r_t, discount_t = _rewards(state, batch)
    td_error = double_q_learning(
        _valued(state, outputs, batch.obs),
        a_tm1,
        r_t=r_t,
        discount_t=discount_t,
        q_t_value=_valued(state, next_outputs, batch.next_obs),
        q_t_selector=selector,
    )
    if config.quantiles == 1:
        return _ERRORS[config.error](td_error), td_error
    shape = (-1, state.shape.actions, config.quantiles)
    rows, a_t = torch.arange(len(a_tm1)), selector.argmax(dim=1)
    following = _with_prior(state, next_outputs.view(shape), batch.next_obs)[rows, a_t]
    target = r_t.unsqueeze(1) + discount_t.unsqueeze(1) * following
    return quantile_huber(_with_prior(state, outputs.view(shape), batch.obs)[rows, a_tm1], target), td_error


def _spans(config: DQNConfig, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Steps that each row's reward is summed over, and what a reward of 1 at each of them sums to: float64[B] both."""
    steps = np.ones(len(batch.reward)) if batch.steps is None else batch.steps.astype(np.float64)
    if config.discount == 1.0:
        return steps, steps
    return steps, (1.0 - config.discount**steps) / (1.0 - config.discount)


def _rewards(state: DQNState, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards less their running mean, and discounts of what follows: float32[B] each."""
    config = state.config
    steps, spanned = _spans(config, batch)
    discount = config.discount**steps
    centre = state.reward_mean * spanned if config.centre_rewards else 0.0
    discount = discount * ~batch.terminated
    reward = batch.reward - centre
    if config.potential:
        reward = reward + shaping(batch.obs, batch.next_obs, discount, config.potential)
    return torch.from_numpy(reward.astype(np.float32)), torch.from_numpy(discount.astype(np.float32))


def _valued(state: DQNState, outputs: torch.Tensor, obs: np.ndarray) -> torch.Tensor:
    """Values float32[B, A] of a network's outputs: the mean of each action's quantiles, and the prior."""
    shaped = outputs.view(-1, state.shape.actions, state.config.quantiles)
    return _with_prior(state, shaped, obs).mean(dim=2)


def _with_prior(state: DQNState, quantiles: torch.Tensor, obs: np.ndarray) -> torch.Tensor:
    """float32[B, A, Q] with the rule's values added."""
    if state.prior is None:
        return quantiles
    return quantiles + torch.from_numpy(state.prior.logits(obs)).unsqueeze(2)


def _normalised(state: DQNState, obs: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(network_inputs(obs, state.inputs.mean, state.inputs.scale, state.features))


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
    """Adam, then the target's and the average's step; all in place."""
    config, step = state.config, state.updates + 1
    adam_step(
        state.parameters,
        state.first_moment,
        state.second_moment,
        shortened(gradient, norm, config.gradient_norm_max),
        step=step,
        rate=learning_rate_at(config, state.updates),
        beta1=config.adam_beta1,
        beta2=config.adam_beta2,
        epsilon=config.adam_epsilon,
    )
    state.target.lerp_(state.parameters, config.polyak)
    # A share of about 9/n at first, so that the average forgets the untrained weights
    # (as in TensorFlow's ExponentialMovingAverage with num_updates).
    state.averaged.lerp_(state.parameters, max(config.averaging, 9.0 / (9.0 + step)))


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
