"""Deep Q-learning for a stream that never ends: Double, dueling, centred rewards, averaged weights.

`init` makes a state, `update` takes it one batch further. Nothing here draws from global random
state; on one torch thread (`torch.set_num_threads(1)`, the process's business) equal seeds and equal
batches give equal bits.

Sources: Mnih et al. (2015), "Human-level control through deep reinforcement learning"; van Hasselt
et al. (2016) and Wang et al. (2016) for Double and dueling; Naik et al. (2024), "Reward Centering", whose
continuing tasks become episodic ones by centring the end as well;
Polyak, Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging".
"""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.learners.dqn.config import DQNConfig, learning_rate_at
from headrace.learners.dqn.losses import double_q_learning, huber_error, quantile_huber, squared_error
from headrace.learners.dqn.replay import Batch
from headrace.learners.dqn.state import DQNState, Passes, passes_of
from headrace.learners.nets.adam import adam_step, clip_by_norm, l2_norm, require_finite
from headrace.learners.nets.dueling import heads_of
from headrace.learners.nets.mlp import backward, forward, split_layers
from headrace.learners.nets.normaliser import Moments, carry_over, merged
from headrace.learners.nets.rewards import RewardScale
from headrace.learners.shaping import shaping

_NORMALISER_EVERY, _NORMALISER_BATCHES = 16, 1_000
"""After its first updates the normaliser moves on with each 16th, as a mean of about the last thousand of these."""
_END_UNITS = 20.0
_ERRORS = {"squared": squared_error, "huber": huber_error}


def update(state: DQNState, batch: Batch) -> tuple[DQNState, dict[str, float]]:
    """One step of gradient descent on a batch, usually `buffer.sample(state.rng, config.batch_size)`.

    The given state is consumed: the returned one owns its tensors, which are overwritten in place.

    Returns the next state, and metrics: `loss` (mean, half squared, in the square of the networks' unit),
    `q_mean` (of the actions taken, centred), `td_abs` (mean absolute error), both in the reward's unit, and `grad_norm`
    (before shortening). Raises LearnerDivergedError where the loss or the
    gradient is not finite, or the loss is beyond its limit; the state is then untouched and good.
    """
    following, metrics, _ = update_prioritised(state, batch, None)
    return following, metrics


def update_prioritised(
    state: DQNState, batch: Batch, weight: NDArray[np.float32] | None
) -> tuple[DQNState, dict[str, float], NDArray[np.float32]]:
    """As `update`, with each row's loss weighted by float32[B]; for prioritised replay.

    Returns the absolute errors too, float32[B], in the networks' unit: the rows' new priorities.
    """
    passes = passes_of(state)
    inputs, rewards, fading = _statistics(state, batch)
    following = _begun(state, passes, batch, inputs, rewards, fading)
    with np.errstate(all="ignore"):  # what is not finite is told by a LearnerDivergedError
        gradient, metrics, sizes = _gradient(following, passes, batch, weight)
    require_finite(f"update {following.updates}", metrics["loss"], state.config.loss_limit, metrics["grad_norm"])
    _descend(following, gradient, metrics["grad_norm"])
    return _restated(following, inputs), metrics, sizes


def greedy(state: DQNState, obs: NDArray[np.float32]) -> NDArray[np.intp]:
    """The online weights' greedy actions: float32[B, D] -> int64[B]."""
    passes = passes_of(state)
    outputs = passes.online.q_values(passes.normalised(state, obs)).numpy()
    actions: NDArray[np.intp] = _values(state, _with_prior(state, outputs, obs)).argmax(axis=1)
    return actions


def _statistics(state: DQNState, batch: Batch) -> tuple[Moments, RewardScale, float]:
    """The normaliser, the rewards' scale and `fading`, moved on by the batch; the normaliser often at first."""
    config = state.config
    # The rate 1/n of a plain mean at first, so that the start values have no weight.
    rate = max(config.reward_mean_rate, 1.0 / (state.updates + 1))
    spans = _spans(config, batch)
    fading = float(((1.0 - _discounts(config, batch)) / spans).mean())
    due = state.updates < config.normaliser_updates or (
        config.normaliser_updates and state.updates % _NORMALISER_EVERY == 0
    )
    inputs = merged(state.inputs, batch.obs, _NORMALISER_BATCHES * len(batch.obs)) if due else state.inputs
    return inputs, state.rewards.moved(batch.reward / spans, rate), state.fading + rate * (fading - state.fading)


def _begun(
    state: DQNState, passes: Passes, batch: Batch, inputs: Moments, rewards: RewardScale, fading: float
) -> DQNState:
    """The state one update on, by the scales that its networks were learned by; by the first ones where it has none."""
    following = dataclasses.replace(
        state,
        inputs=state.inputs if state.inputs.rows else inputs,
        rewards=rewards,
        fading=fading,
        terminates=state.terminates or bool(batch.terminated.any()),
        updates=state.updates + 1,
        passes=passes,
    )
    return following if state.rewards.size else dataclasses.replace(following, unit=_unit(following))


def _unit(state: DQNState) -> float:
    """The reward that counts 1 where the networks learn: the rewards' size; more where centring makes an end costlier.

    An end is then worth at most `_END_UNITS`, which the networks can tell from the values of a few steps.
    """
    scale, offset = state.rewards, _offset(state)
    return max(scale.unit, abs(offset - scale.mean) / _END_UNITS) if offset and state.terminates else scale.unit


def _restated(state: DQNState, inputs: Moments) -> DQNState:
    """The state by other scales: first layers and heads are rewritten in place, so that no value changes.

    Source: van Hasselt et al. (2016), "Learning values across many orders of magnitude".
    """
    unit = _unit(state)
    for flat in (state.parameters, state.target, state.averaged):
        if inputs is not state.inputs:
            weight, bias = split_layers(flat, state.shape)[0]
            carry_over(state.inputs, inputs, weight[: len(inputs.mean)], bias)
        if unit != state.unit:
            heads_of(flat, state.shape).mul_(state.unit / unit)
    return dataclasses.replace(state, inputs=inputs, unit=unit)


def _gradient(
    state: DQNState, passes: Passes, batch: Batch, weight: NDArray[np.float32] | None
) -> tuple[torch.Tensor, dict[str, float], NDArray[np.float32]]:
    """The loss's gradient, float32[P], the metrics, and the absolute errors, float32[B]."""
    rows, layers = len(batch.action), passes.online.combined()
    given = forward(layers, passes.normalised(state, batch.obs), "relu")
    outputs = _with_prior(state, given[-1].numpy(), batch.obs)
    losses, by_taken, td_error = _losses(state, passes, batch, outputs)
    share = np.float32(1.0 / rows) if weight is None else weight / np.float32(rows)
    taken = np.arange(0, rows * state.shape.actions, state.shape.actions) + batch.action
    by_outputs = np.zeros_like(outputs)
    by_outputs.reshape(-1, state.config.quantiles)[taken] = by_taken * np.reshape(share, (-1, 1))
    backward(layers, given, torch.from_numpy(by_outputs), "relu", passes.gradient.layers)
    gradient, sizes = passes.gradient.distribute(), np.abs(td_error)
    metrics = {
        "loss": float((losses * share).sum()),
        "q_mean": float(_values(state, outputs).reshape(-1).take(taken).sum()) / rows * state.unit,
        "td_abs": float(sizes.sum()) / rows * state.unit,
        "grad_norm": l2_norm(gradient),
    }
    return gradient, metrics, sizes


def _losses(
    state: DQNState, passes: Passes, batch: Batch, outputs: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Each row's loss, float32[B], its gradient by the taken action's outputs, float32[B, Q], and error, float32[B]."""
    config, rows = state.config, np.arange(len(batch.action))
    next_obs = passes.normalised(state, batch.next_obs)
    priced = _with_prior(state, passes.target.q_values(next_obs).numpy(), batch.next_obs)
    selector = priced
    if config.double:
        selector = _with_prior(state, forward(passes.online.layers, next_obs, "relu")[-1].numpy(), batch.next_obs)
    selector = _values(state, selector)
    r_t, discount_t = _rewards(state, batch)
    td_error = double_q_learning(
        _values(state, outputs), batch.action, r_t, discount_t, _values(state, priced), selector
    )
    if config.quantiles == 1:
        losses, slope = _ERRORS[config.error](td_error)
        return losses, -slope[:, None], td_error
    shape = (-1, state.shape.actions, config.quantiles)
    target = r_t[:, None] + discount_t[:, None] * priced.reshape(shape)[rows, selector.argmax(axis=1)]
    return *quantile_huber(outputs.reshape(shape)[rows, batch.action], target), td_error


def _spans(config: DQNConfig, batch: Batch) -> NDArray[np.floating] | float:
    """What a reward of 1 at each of a row's steps sums to, float64[B]; 1 where all rows are of one step."""
    if batch.steps is None:
        return 1.0
    if config.discount == 1.0:
        return batch.steps.astype(np.float64)
    spans: NDArray[np.floating] = (1.0 - config.discount**batch.steps) / (1.0 - config.discount)
    return spans


def _discounts(config: DQNConfig, batch: Batch) -> NDArray[np.floating]:
    """What the value of what follows counts in each row, float64[B]; 0 at an end."""
    by_step = config.discount if batch.steps is None else config.discount**batch.steps
    discounts: NDArray[np.floating] = by_step * ~batch.terminated
    return discounts


def _rewards(state: DQNState, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centred rewards in the networks' unit, and discounts of what follows: float32[B] each."""
    config = state.config
    discount, spans = _discounts(config, batch), _spans(config, batch)
    reward = spans * state.rewards.cut(batch.reward / spans) - _centre(state, batch, discount)
    if config.potential:
        reward = reward + shaping(batch.obs, batch.next_obs, discount, config.potential)
    return (reward / state.unit).astype(np.float32), discount.astype(np.float32)


def _centre(state: DQNState, batch: Batch, discount: NDArray[np.floating]) -> NDArray[np.floating] | float:
    """What centring takes off each row's reward, float64[B].

    Every value is lower by the same, that of a terminal state as well. Taking the mean off the rewards alone would pay
    for an early end wherever it is positive, and for a late one wherever it is negative. Undiscounted values have such
    a common part only where nothing ends.
    """
    if not state.config.centre_rewards:
        return 0.0
    if state.config.discount < 1.0:
        return _offset(state) * (1.0 - discount)
    if state.terminates:
        return 0.0
    return state.rewards.mean * (1.0 if batch.steps is None else batch.steps)


def _offset(state: DQNState) -> float:
    """What centring takes off every value: the mean value of what the rows did, so that the mean row's reward is 0.

    That value is the mean reward and what is kept of it a step on: mean / (1 - gamma) where nothing ends, the mean
    itself where each step ends an episode. 0 where values are not centred so.
    """
    if not state.config.centre_rewards or state.config.discount == 1.0:
        return 0.0
    return state.rewards.mean / state.fading


def _values(state: DQNState, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[B, A * Q] -> float32[B, A], each action's mean."""
    if state.config.quantiles == 1:
        return outputs
    means: NDArray[np.float32] = outputs.reshape(-1, state.shape.actions, state.config.quantiles).mean(axis=2)
    return means


def _with_prior(state: DQNState, outputs: NDArray[np.float32], obs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The outputs float32[B, A * Q], overwritten, with the rule's values added to each quantile, in the same unit."""
    if state.prior is not None:
        shaped = outputs.reshape(-1, state.shape.actions, state.config.quantiles)
        shaped += state.prior.logits(obs)[:, :, None] / np.float32(state.unit)
    return outputs


def _descend(state: DQNState, gradient: torch.Tensor, norm: float) -> None:
    """Adam, then the target's and the average's step; all in place."""
    config, step = state.config, state.updates
    adam_step(
        state.parameters,
        state.first_moment,
        state.second_moment,
        clip_by_norm(gradient, norm, config.gradient_norm_max),
        step=step,
        rate=learning_rate_at(config, step - 1),
        beta1=config.adam_beta1,
        beta2=config.adam_beta2,
        epsilon=config.adam_epsilon,
    )
    state.target.lerp_(state.parameters, config.polyak)
    # A share of about 9/n at first, so that the average forgets the untrained weights
    # (as in TensorFlow's ExponentialMovingAverage with num_updates).
    state.averaged.lerp_(state.parameters, max(config.averaging, 9.0 / (9.0 + step)))
