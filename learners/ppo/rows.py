"""From a rollout to the rows that PPO learns from: values, advantages, importance weights, what is too old."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from headrace.learners.acting import network_inputs
from headrace.learners.nets.mlp import forward, split_mlp
from headrace.learners.nets.normaliser import Moments, merged
from headrace.learners.ppo.policy_gradient import generalised_advantages
from headrace.learners.ppo.state import PPOConfig, PPOState, Rollout, distribution, policy_layers
from headrace.schemas.errors import LearnerDivergedError

_ADVANTAGE_FLOOR = 1e-6
"""Advantages that vary less are all zero but for rounding: a constant reward teaches nothing."""


class Minibatch(NamedTuple):
    """Columns of B of the rows, as `Rows` has them, for NumPy."""

    inputs: np.ndarray
    critic_inputs: np.ndarray
    prior: np.ndarray | None
    action: np.ndarray
    log_prob: np.ndarray
    weight: np.ndarray | None
    advantage: np.ndarray
    target: np.ndarray


class Rows(NamedTuple):
    """Columns of the R rows that are learned from.

    inputs: float32[R, D + K]; critic_inputs: float32[R, D + K + P]; prior: float32[R, A] or None;
    action; log_prob: by the policy at the update's start; weight: importance of aged rows, or None;
    advantage, target: float32[R], the target in the critic's own unit.
    """

    inputs: torch.Tensor
    critic_inputs: torch.Tensor
    prior: torch.Tensor | None
    action: torch.Tensor
    log_prob: torch.Tensor
    weight: torch.Tensor | None
    advantage: torch.Tensor
    target: torch.Tensor

    def take(self, index: torch.Tensor) -> "Rows":
        """These rows; index: int64[B]."""
        return Rows(*(None if column is None else column.index_select(0, index) for column in self))  # type: ignore[arg-type]

    def minibatches(self, order: np.ndarray, size: int) -> Iterator[Minibatch]:
        """The rows in an order, int64[R], `size` at a time; what remains is the last."""
        inputs = self.inputs.numpy().take(order, axis=0)
        shared = self.critic_inputs is self.inputs
        critic_inputs = inputs if shared else self.critic_inputs.numpy().take(order, axis=0)
        others = (None if column is None else column.numpy().take(order, axis=0) for column in self[2:])
        columns = (inputs, critic_inputs, *others)
        for start in range(0, len(order), size):
            part = slice(start, start + size)
            yield Minibatch(*(None if column is None else column[part] for column in columns))  # type: ignore[arg-type]


def require_finite(rollout: Rollout, state: PPOState) -> None:
    """Raise LearnerDivergedError for a rollout that holds a number that is not finite."""
    for name in ("obs", "reward", "next_obs", "log_prob", "action"):
        column = getattr(rollout, name)
        if not np.isfinite(column.sum(dtype=np.float64)) and not np.isfinite(column).all():
            raise LearnerDivergedError(
                f"update {state.version + 1}: {name} of the rollout holds a number that is not finite; "
                "look for bad observations or rewards"
            )


def with_inputs(state: PPOState, rollout: Rollout) -> PPOState:
    """The state with the input normaliser moved on, while it is not frozen."""
    if state.inputs.rows >= state.config.normaliser_rows:
        return state
    there = _present(rollout)
    inputs = merged(state.inputs, rollout.obs[there])
    privileged = state.privileged
    if rollout.privileged is not None:
        privileged = merged(privileged, rollout.privileged[there])
    return dataclasses.replace(state, inputs=inputs, privileged=privileged)


def _normalised(moments: Moments, rows: np.ndarray) -> np.ndarray:
    return network_inputs(rows, moments.mean, moments.scale, None)


def _inputs(state: PPOState, obs: np.ndarray) -> np.ndarray:
    return network_inputs(obs, state.inputs.mean, state.inputs.scale, state.features)


def prepared(state: PPOState, rollout: Rollout) -> tuple[PPOState, Rows, dict[str, float]]:
    """The rows to learn from, and the state with its values' scale moved on."""
    steps, count = rollout.reward.shape
    flat = rollout.obs.reshape(steps * count, -1)
    inputs = _inputs(state, flat)
    critic_inputs = _with_privileged(state, inputs, rollout.privileged)
    action = rollout.action.reshape(steps * count, *rollout.action.shape[2:])
    behaviour = rollout.log_prob.reshape(-1).astype(np.float32)
    prior = None if state.prior is None else state.prior.logits(flat)
    log_prob, weight = _log_prob_now(state, rollout, (inputs, prior, action, behaviour))
    keep, dropped = _kept(state, rollout)
    value = _values(state, critic_inputs).reshape(steps, count)
    following = _following_values(state, rollout, value)
    advantage = _advantages(state.config, rollout, value, following, weight)
    target = value + advantage
    if weight is not None and rollout.version is not None:
        # Of others' rows the own step counts as much as its action is likely now, as in V-trace (Espeholt et al. 2018,
        # "IMPALA", eq. 1). An average of the policy that acts in a simulation is near enough to go without.
        target = value + advantage * np.minimum(1.0, weight.reshape(value.shape))
    state = _with_value_scale(state, target[keep])
    scaled_target = ((target - state.value_mean) / state.value_scale).astype(np.float32)
    tensor = torch.from_numpy(inputs)
    rows = Rows(
        inputs=tensor,
        critic_inputs=tensor if critic_inputs is inputs else torch.from_numpy(critic_inputs),
        prior=None if prior is None else torch.from_numpy(prior),
        action=torch.from_numpy(action),
        log_prob=torch.from_numpy(log_prob),
        weight=None if weight is None else torch.from_numpy(weight),
        advantage=torch.from_numpy(_standardised(state.config, advantage, keep).reshape(-1)),
        target=torch.from_numpy(scaled_target.reshape(-1)),
    )
    if not keep.all():
        rows = rows.take(torch.from_numpy(np.flatnonzero(keep)))
    return state, rows, {"dropped_share": dropped} | _told(target[keep], advantage[keep], rows.weight)


def _told(target: np.ndarray, advantage: np.ndarray, weight: torch.Tensor | None) -> dict[str, float]:
    """How well the critic had foreseen its targets, and how far the data is from the policy."""
    if not len(target):
        return {"explained": 0.0, "effective_share": 0.0}
    explained = 1.0 - float(advantage.var()) / max(float(target.var()), 1e-12)
    return {"explained": explained, "effective_share": 1.0 if weight is None else _effective_share(weight.numpy())}


def _effective_share(weight: np.ndarray) -> float:
    """How many rows by the policy itself would tell as much as a row does (Kish's effective sample size)."""
    squares = np.square(weight, dtype=np.float64).sum()
    return float(weight.sum(dtype=np.float64) ** 2 / max(len(weight) * squares, 1e-300))


def _with_privileged(state: PPOState, inputs: np.ndarray, privileged: np.ndarray | None) -> np.ndarray:
    if privileged is None:
        return inputs
    extra = _normalised(state.privileged, privileged.reshape(len(inputs), -1))
    return np.concatenate([inputs, extra], axis=1)


def _kept(state: PPOState, rollout: Rollout) -> tuple[np.ndarray, float]:
    """Which rows are there and young enough, bool[T, N]; and the share that was too old."""
    present = _present(rollout)
    if rollout.version is None:
        return present, 0.0
    young = state.version - rollout.version <= state.config.age_max
    return present & young, 1.0 - float((present & young).sum()) / max(1, int(present.sum()))


def _present(rollout: Rollout) -> np.ndarray:
    return np.ones(rollout.reward.shape, np.bool_) if rollout.present is None else rollout.present


def _log_prob_now(
    state: PPOState, rollout: Rollout, columns: tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Log-probabilities under the state's policy, and the importance weights of what others took."""
    inputs, prior, action, behaviour = columns
    own = rollout.version is None or bool((rollout.version == state.version).all())
    if own and state.inputs.rows >= state.config.normaliser_rows and state.config.averaging >= 1.0:
        return behaviour, None
    layers, log_std = policy_layers(state.policy.parameters, state.policy.shape)
    outputs = forward(layers, torch.from_numpy(inputs), state.policy.shape.activation)[-1].numpy()
    log_prob = distribution(outputs, prior, None if log_std is None else log_std.numpy(), action).log_prob
    weight = np.minimum(np.exp(np.clip(log_prob - behaviour, -20.0, 20.0)), state.config.importance_max)
    return log_prob, weight


def _values(state: PPOState, critic_inputs: np.ndarray) -> np.ndarray:
    """float64[R], in the reward's unit."""
    layers = split_mlp(state.critic.parameters, state.critic.shape)
    outputs = forward(layers, torch.from_numpy(critic_inputs), state.critic.shape.activation)[-1]
    return state.value_mean + state.value_scale * outputs.squeeze(1).numpy().astype(np.float64)


def _following_values(state: PPOState, rollout: Rollout, value: np.ndarray) -> np.ndarray:
    """Values of what truly followed: the next row's, or where the trajectory ends there, its own."""
    following = np.empty_like(value)
    following[:-1] = value[1:]
    ends = ~_continues(rollout)
    inputs = _inputs(state, rollout.next_obs[ends])
    privileged = None if rollout.next_privileged is None else rollout.next_privileged[ends]
    following[ends] = _values(state, _with_privileged(state, inputs, privileged))
    return following


def _continues(rollout: Rollout) -> np.ndarray:
    """Whether the next row is the same trajectory's next step, bool[T, N]."""
    continues: np.ndarray = ~(rollout.terminated | rollout.truncated)
    continues[-1] = False
    if rollout.present is not None:
        continues[:-1] &= rollout.present[1:]
    return continues


def _advantages(
    config: PPOConfig, rollout: Rollout, value: np.ndarray, following: np.ndarray, weight: np.ndarray | None
) -> np.ndarray:
    trace = np.full_like(value, config.gae_lambda)
    if weight is not None:
        trace *= np.minimum(1.0, weight.reshape(value.shape))
    discount = config.discount * ~rollout.terminated
    reward = rollout.reward.astype(np.float64)
    return generalised_advantages(reward, discount, _continues(rollout), value, following, trace)


def _standardised(config: PPOConfig, advantage: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """float32[T, N], to mean 0 and deviation 1 over the rows kept; all 0 where they don't differ."""
    kept = advantage[keep]
    if not config.normalise_advantages or not len(kept):
        return advantage.astype(np.float32)
    deviation = float(kept.std())
    if deviation < _ADVANTAGE_FLOOR:
        return np.zeros(advantage.shape, np.float32)
    standardised: np.ndarray = (advantage - kept.mean()) / deviation
    return standardised.astype(np.float32)


def _with_value_scale(state: PPOState, target: np.ndarray) -> PPOState:
    """Move the values' mean and scale on; the critic's last layer is rewritten so that no value changes."""
    if not len(target):
        return state
    rate = max(state.config.value_rate, 1.0 / (state.version + 1))
    mean = state.value_mean + rate * (float(target.mean()) - state.value_mean)
    deviation = max(float(target.std()), 0.01 * abs(mean), 1e-3)  # targets that are all alike have no scale
    scale = state.value_scale + rate * (deviation - state.value_scale)
    if not state.version:  # nothing was learned yet that must be kept
        return dataclasses.replace(state, value_mean=mean, value_scale=scale)
    critic = state.critic.clone()
    weight, bias = split_mlp(critic.parameters, critic.shape)[-1]
    bias.mul_(state.value_scale).add_(state.value_mean - mean).div_(scale)
    weight.mul_(state.value_scale / scale)
    return dataclasses.replace(state, critic=critic, value_mean=mean, value_scale=scale)
