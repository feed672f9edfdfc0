"""From a rollout to the rows that PPO learns from: values, advantages, importance weights, what is too old."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import Seen, network_inputs
from headrace.learners.nets.normaliser import INPUT_LIMIT, carry_over, merged
from headrace.learners.ppo.policy_gradient import Floats, distribution, generalised_advantages
from headrace.learners.ppo.state import PPOState
from headrace.learners.tails import side_of
from headrace.schemas.errors import LearnerDivergedError

Bools = NDArray[np.bool_]
_ADVANTAGE_FLOOR = 1e-6
"""Advantages that vary less, of the rewards' size, are zero but for rounding: a constant reward teaches nothing."""


class Rollout(NamedTuple):
    """T steps of N trajectories; row [t, n] is followed by [t + 1, n] unless its episode ends there."""

    obs: NDArray[np.float32]  # [T, N, D]
    action: NDArray[Any]  # int64[T, N], or float32[T, N, A] as taken, cut to the bounds
    log_prob: NDArray[np.float32]  # [T, N], of the action, by the policy that took it; see `acting.BoxPolicy`
    reward: NDArray[np.float32]  # [T, N]
    next_obs: NDArray[np.float32]  # [T, N, D], what truly followed, also where an episode was cut off
    terminated: NDArray[np.bool_]  # [T, N]
    truncated: NDArray[np.bool_]  # [T, N]
    version: NDArray[np.int64] | None = None  # [T, N], `PPOState.version` that acted; None for the state's own
    present: NDArray[np.bool_] | None = None  # [T, N], false where a trajectory is shorter than T; None for all
    privileged: NDArray[np.float32] | None = None  # [T, N, P], what the critic alone sees in training
    next_privileged: NDArray[np.float32] | None = None  # [T, N, P]


class Rows(NamedTuple):
    """Columns of the R rows that are learned from, or of a minibatch of them."""

    inputs: NDArray[np.float32]  # [R, D + K]
    critic_inputs: NDArray[np.float32]  # [R, D + K + P]; the same array where P is 0
    prior: NDArray[np.float32] | None  # [R, A]
    action: NDArray[Any]  # continuous ones as the policy has them, between -1 and 1
    log_prob: NDArray[np.float32]  # by the policy at the update's start
    weight: NDArray[np.float32] | None  # importance of aged rows
    advantage: NDArray[np.float32]
    target: NDArray[np.float32]  # in the critic's own unit

    def take(self, index: NDArray[np.intp]) -> "Rows":
        """These rows; index: int64[B]."""
        taken = [None if column is None else column.take(index, axis=0) for column in self[2:]]
        inputs = self.inputs.take(index, axis=0)
        shared = self.critic_inputs is self.inputs
        return Rows(inputs, inputs if shared else self.critic_inputs.take(index, axis=0), *taken)  # type: ignore[arg-type] # as they were

    def minibatches(self, order: NDArray[np.intp], size: int) -> Iterator["Rows"]:
        """The rows in an order, int64[R], `size` at a time; what remains is the last."""
        columns = self.take(order)
        for start in range(0, len(order), size):
            part = slice(start, start + size)
            yield Rows(*(None if column is None else column[part] for column in columns))  # type: ignore[arg-type]


def require_finite_columns(rollout: Rollout, state: PPOState) -> None:
    """Raise LearnerDivergedError for a rollout that holds a number that is not finite."""
    for name in ("obs", "reward", "next_obs", "log_prob", "action"):
        column = getattr(rollout, name)
        if not np.isfinite(column.sum(dtype=np.float64)) and not np.isfinite(column).all():
            raise LearnerDivergedError(
                f"update {state.version + 1}: {name} of the rollout holds a number that is not finite; "
                "look for bad observations or rewards"
            )


def with_inputs(state: PPOState, rollout: Rollout) -> PPOState:
    """The state with the input normalisers moved on; first layers are rewritten so that no output changes."""
    there, config = _kept(state, rollout)[0], state.config
    if not there.any():
        return state
    inputs = merged(state.inputs, rollout.obs[there], config.normaliser_rows)
    privileged = state.privileged
    if rollout.privileged is not None:
        privileged = merged(privileged, rollout.privileged[there], config.normaliser_rows)
    moved_on = dataclasses.replace(state, inputs=inputs, privileged=privileged)
    return _carried_over(moved_on, state) if state.inputs.rows else moved_on


def _carried_over(state: PPOState, before: PPOState) -> PPOState:
    """A state by new normalisers with first layers of its own."""
    policy, critic, averaged = state.policy.clone(), state.critic.clone(), state.averaged.clone()
    width = len(state.inputs.mean)
    for net in (policy, critic, policy._replace(parameters=averaged)):
        weight, bias = net.layers[0]
        carry_over(before.inputs, state.inputs, weight[:width], bias)
    if extra := len(state.privileged.mean):
        weight, bias = critic.layers[0]
        carry_over(before.privileged, state.privileged, weight[-extra:], bias)
    return dataclasses.replace(state, policy=policy, critic=critic, averaged=averaged)


def _inputs(state: PPOState, obs: Floats, privileged: Floats | None) -> tuple[Floats, Floats]:
    """What the policy and the critic see of observations float32[R, D]: the same array where nothing is privileged."""
    inputs = network_inputs(obs, Seen(state.inputs.mean, state.inputs.scale, INPUT_LIMIT), state.features)
    if privileged is None:
        return inputs, inputs
    seen = Seen(state.privileged.mean, state.privileged.scale, INPUT_LIMIT)
    extra = network_inputs(privileged.reshape(len(obs), -1), seen, None)
    return inputs, np.concatenate([inputs, extra], axis=1)


def prepared(state: PPOState, rollout: Rollout) -> tuple[PPOState, Rows, dict[str, float]]:
    """The rows to learn from, and the state with its rewards' and its values' scale moved on."""
    obs, action = (column.reshape(-1, *column.shape[2:]) for column in (rollout.obs, rollout.action))
    behaviour = rollout.log_prob.reshape(-1).astype(np.float32)
    action, behaviour = _as_the_policy_has_them(state, action, behaviour)
    inputs, critic_inputs = _inputs(state, obs, rollout.privileged)
    prior = None if state.prior is None else state.prior.logits(obs)
    log_prob, weight = _log_prob_now(state, rollout, (inputs, prior, action, behaviour))
    keep, dropped = _kept(state, rollout)
    state, rollout = _with_reward_scale(state, rollout, keep)
    value = _values(state, critic_inputs).reshape(keep.shape)
    advantage = _advantages(state, rollout, value, weight)
    target = value + advantage
    if weight is not None and rollout.version is not None:
        # Of others' rows the own step counts as much as its action is likely now, as in V-trace (Espeholt et al. 2018,
        # "IMPALA", eq. 1). An average of the policy that acts in a simulation is near enough to go without.
        target = value + advantage * np.minimum(1.0, weight.reshape(value.shape))
    state = _with_value_scale(state, target[keep])
    scaled_target = ((target - state.value_mean) / state.value_scale).astype(np.float32)
    scaled_advantage = _standardised(state, advantage, keep)
    rows = Rows(
        inputs, critic_inputs, prior, action, log_prob, weight, scaled_advantage.reshape(-1), scaled_target.reshape(-1)
    )
    if not keep.all():
        rows = rows.take(np.flatnonzero(keep))
    return state, rows, {"dropped_share": dropped} | _told(target[keep], advantage[keep], rows.weight)


def _as_the_policy_has_them(
    state: PPOState, action: NDArray[Any], log_prob: Floats
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Continuous actions between -1 and 1, and their log-probabilities there; discrete ones as they are.

    A density grows as its unit does; the probability of a bound is the same in each.
    """
    if state.bounds is None or state.box is None:
        return action, log_prob.astype(np.float32)
    middle, half = state.unit
    side = side_of(action, state.bounds[0], state.bounds[1])
    inside = np.clip((action - middle) / half, state.box[0], state.box[1])
    action = np.where(side > 0.0, state.box[1], np.where(side < 0.0, state.box[0], inside))
    return action.astype(np.float32), (log_prob + ((side == 0.0) * np.log(half)).sum(axis=1)).astype(np.float32)


def _with_reward_scale(state: PPOState, rollout: Rollout, keep: Bools) -> tuple[PPOState, Rollout]:
    """Move the rewards' scale on, and cut off the rewards that are absurdly far out of it."""
    reward = rollout.reward[keep]
    if not len(reward):
        return state, rollout
    rate = max(state.config.value_rate, 1.0 / (state.version + 1))
    rewards = state.rewards.moved(reward, rate)
    return dataclasses.replace(state, rewards=rewards), rollout._replace(reward=rewards.cut(rollout.reward))


def _told(target: Floats, advantage: Floats, weight: Floats | None) -> dict[str, float]:
    """How well the critic had foreseen its targets, and how far the data is from the policy."""
    if not len(target):
        return {"explained": 0.0, "effective_share": 0.0}
    explained = 1.0 - float(advantage.var()) / max(float(target.var()), 1e-12)
    return {"explained": explained, "effective_share": 1.0 if weight is None else _effective_share(weight)}


def _effective_share(weight: Floats) -> float:
    """How many rows by the policy itself would tell as much as a row does (Kish's effective sample size)."""
    squares = np.square(weight, dtype=np.float64).sum()
    return float(weight.sum(dtype=np.float64) ** 2 / max(len(weight) * squares, 1e-300))


def _kept(state: PPOState, rollout: Rollout) -> tuple[Bools, float]:
    """Which rows are there and young enough, bool[T, N]; and the share that was too old."""
    present = _present(rollout)
    if rollout.version is None:
        return present, 0.0
    young = state.version - rollout.version <= state.config.age_max
    return present & young, 1.0 - float((present & young).sum()) / max(1, int(present.sum()))


def _present(rollout: Rollout) -> Bools:
    return np.ones(rollout.reward.shape, np.bool_) if rollout.present is None else rollout.present


def _log_prob_now(
    state: PPOState, rollout: Rollout, columns: tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any], NDArray[Any]]
) -> tuple[Floats, Floats | None]:
    """Log-probabilities under the state's policy, and the importance weights of what others took."""
    inputs, prior, action, behaviour = columns
    own = rollout.version is None or bool((rollout.version == state.version).all())
    # Before the first update the policy acted by no normaliser yet.
    if own and state.version and state.config.averaging >= 1.0:
        return behaviour, None
    log_prob = distribution(state.policy.outputs(inputs), prior, state.policy.log_std, action, state.box).log_prob
    weight = np.minimum(np.exp(np.clip(log_prob - behaviour, -20.0, 20.0)), state.config.importance_max)
    return log_prob, weight


def _values(state: PPOState, critic_inputs: Floats) -> Floats:
    """float64[R], in the reward's unit."""
    return state.value_mean + state.value_scale * state.critic.outputs(critic_inputs)[:, 0].astype(np.float64)


def _following_values(state: PPOState, rollout: Rollout, value: Floats, continues: Bools) -> Floats:
    """Values of what truly followed: the next row's, or where the trajectory ends there, its own."""
    following = np.empty_like(value)
    following[:-1] = value[1:]
    ends = ~continues
    privileged = None if rollout.next_privileged is None else rollout.next_privileged[ends]
    following[ends] = _values(state, _inputs(state, rollout.next_obs[ends], privileged)[1])
    return following


def _continues(rollout: Rollout) -> Bools:
    """Whether the next row is the same trajectory's next step, bool[T, N]."""
    continues: Bools = ~(rollout.terminated | rollout.truncated)
    continues[-1] = False
    if rollout.present is not None:
        continues[:-1] &= rollout.present[1:]
    return continues


def _advantages(state: PPOState, rollout: Rollout, value: Floats, weight: Floats | None) -> Floats:
    """float64[T, N], in the reward's unit."""
    trace = np.full_like(value, state.config.gae_lambda)
    if weight is not None:
        trace *= np.minimum(1.0, weight.reshape(value.shape))
    discount, continues = state.config.discount * ~rollout.terminated, _continues(rollout)
    following = _following_values(state, rollout, value, continues)
    return generalised_advantages(rollout.reward.astype(np.float64), discount, continues, value, following, trace)


def _standardised(state: PPOState, advantage: Floats, keep: Bools) -> Floats:
    """float32[T, N], to mean 0 and deviation 1 over the rows kept; all 0 where they don't differ."""
    kept = advantage[keep]
    if not state.config.normalise_advantages or not len(kept):
        return advantage.astype(np.float32)
    deviation = float(kept.std())
    if deviation <= _ADVANTAGE_FLOOR * state.rewards.size:
        return np.zeros(advantage.shape, np.float32)
    standardised: Floats = (advantage - kept.mean()) / deviation
    return standardised.astype(np.float32)


def _with_value_scale(state: PPOState, target: Floats) -> PPOState:
    """Move the values' mean and scale on; the critic's last layer is rewritten so that no value changes."""
    if not len(target):
        return state
    rate = max(state.config.value_rate, 1.0 / (state.version + 1))
    mean = state.value_mean + rate * (float(target.mean()) - state.value_mean)
    # Targets that are all alike have no scale.
    deviation = max(float(target.std()), 0.01 * abs(mean), 1e-3 * state.rewards.unit)
    scale = state.value_scale + rate * (deviation - state.value_scale)
    if not state.version:  # nothing was learned yet that must be kept
        return dataclasses.replace(state, value_mean=mean, value_scale=scale)
    critic = state.critic.clone()
    weight, bias = critic.layers[-1]
    bias.mul_(state.value_scale).add_(state.value_mean - mean).div_(scale)
    weight.mul_(state.value_scale / scale)
    return dataclasses.replace(state, critic=critic, value_mean=mean, value_scale=scale)
