"""PPO's state, and its state as arrays and metadata and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.learners.acting import (
    ACTION_HIGH,
    ACTION_LOW,
    FEATURES,
    LOG_STD,
    OBSERVATION_MEAN,
    OBSERVATION_SCALE,
    TANH,
    given_arrays,
    normaliser_arrays,
)
from headrace.learners.checkpoint import generator_from_meta, generator_to_meta, require_algorithm
from headrace.learners.nets.mlp import (
    Layers,
    MLPShape,
    arrays_from_parameters,
    forward,
    initial_mlp,
    parameters_from_arrays,
    split_layers,
)
from headrace.learners.nets.normaliser import INPUT_LIMIT, Moments, carry_over, no_moments, normalising
from headrace.learners.nets.rewards import RewardScale
from headrace.learners.ppo.config import PPOConfig
from headrace.learners.ppo.policy_gradient import LOG_STD_MAX, LOG_STD_MIN
from headrace.learners.prior import RulePrior, prior_from_arrays

_VECTORS = ("parameters", "first_moment", "second_moment")
_MOMENTS = ("inputs", "privileged")


class Net(NamedTuple):
    """One network in training, and Adam's steps. A continuous policy's vectors end in its log deviations."""

    shape: MLPShape
    parameters: torch.Tensor  # float32[P], or [P + A]
    first_moment: torch.Tensor
    second_moment: torch.Tensor
    steps: int

    @property
    def layers(self) -> Layers:
        """Views of the parameters."""
        return split_layers(self.parameters[: self.shape.size], self.shape)

    @property
    def log_std(self) -> NDArray[np.float32] | None:
        """A view of the log deviations, float32[A]; None where there are none."""
        log_std: NDArray[np.float32] = self.parameters[self.shape.size :].numpy()
        return log_std if len(log_std) else None

    def outputs(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[B, inputs] -> float32[B, outputs]."""
        outputs: NDArray[np.float32] = forward(self.layers, torch.from_numpy(inputs), self.shape.activation)[-1].numpy()
        return outputs

    def clone(self) -> "Net":
        """A copy whose vectors may be overwritten."""
        parameters, first_moment, second_moment = (getattr(self, vector).clone() for vector in _VECTORS)
        return Net(self.shape, parameters, first_moment, second_moment, self.steps)


@dataclasses.dataclass(frozen=True, eq=False)
class PPOState:
    """All that learning goes on from."""

    config: PPOConfig
    policy: Net
    critic: Net
    averaged: torch.Tensor  # the policy's weights that act
    features: NDArray[np.float32] | None  # [D, K], linear features
    prior: RulePrior | None  # the rule that the logits start from
    bounds: NDArray[np.float32] | None  # [2, A], lowest and highest continuous action
    inputs: Moments  # of the observations
    privileged: Moments  # of what the critic alone sees
    rewards: RewardScale  # what is absurd lies beyond it
    value_mean: float  # what the critic's output 0 stands for
    value_scale: float  # what 1 more of it stands for
    rows: int  # learned from
    version: int  # updates done; the version that acts until the next
    rng: np.random.Generator  # for the order of the rows; it advances in place

    @property
    def unit(self) -> NDArray[np.float32]:
        """The action that is 0 to the policy and how much more is 1: float32[2, A], so that bounds are at -1 and 1."""
        assert self.bounds is not None
        low, high = self.bounds
        bounded = np.isfinite(low) & np.isfinite(high) & (low < high)
        with np.errstate(invalid="ignore"):
            middle, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
        return np.stack([np.where(bounded, middle, 0.0), np.where(bounded, half, 1.0)]).astype(np.float32)

    @property
    def box(self) -> NDArray[np.float32] | None:
        """The bounds as the policy has them, float32[2, A]; None where actions are discrete."""
        return None if self.bounds is None else ((self.bounds - self.unit[0]) / self.unit[1]).astype(np.float32)


def init(
    config: PPOConfig,
    observation_width: int,
    actions: int,
    seed: int,
    *,
    bounds: NDArray[np.float32] | None = None,
    features: NDArray[np.float32] | None = None,
    prior: RulePrior | None = None,
    privileged_width: int = 0,
) -> PPOState:
    """A state before any update; the seed fixes the weights and the order of rows.

    actions: A, number of discrete actions or dimensions of continuous ones. bounds: float32[2, A], lowest and highest
    continuous action; None where actions are discrete. features: float32[D, K], sums of the observation that the
    networks see beside it. prior: a rule that the logits of discrete actions start from. privileged_width: of what the
    critic alone sees.
    """
    policy_seed, critic_seed, order_seed = np.random.SeedSequence(seed).spawn(3)
    width = observation_width + (0 if features is None else features.shape[1])
    head = "logits" if bounds is None else "mean"
    policy = MLPShape(width, config.hidden, actions, head, config.activation)
    critic = MLPShape(width + privileged_width, config.critic_hidden, 1, "value", config.activation)
    weights = initial_mlp(policy, np.random.default_rng(policy_seed), 0.01)
    if bounds is not None:
        weights = torch.cat([weights, torch.full((actions,), config.log_std)])
    return PPOState(
        config=config,
        policy=_net(policy, weights),
        critic=_net(critic, initial_mlp(critic, np.random.default_rng(critic_seed), 0.01)),
        averaged=weights.clone(),
        features=features,
        prior=prior,
        bounds=bounds,
        inputs=no_moments(observation_width),
        privileged=no_moments(privileged_width),
        rewards=RewardScale(),
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


def policy_arrays(state: PPOState) -> dict[str, NDArray[Any]]:
    """What acts: the averaged weights and all that goes with them, for `acting.load_policy`."""
    return _arrays_of(state, state.policy._replace(parameters=state.averaged))


def behaviour_arrays(state: PPOState) -> dict[str, NDArray[Any]]:
    """As `policy_arrays`, of the weights in training: what rollouts must be drawn by."""
    return _arrays_of(state, state.policy)


def _arrays_of(state: PPOState, net: Net) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    arrays |= arrays_from_parameters(net.parameters[: net.shape.size], net.shape)
    if net.log_std is not None:
        middle, half = state.unit
        arrays["mean.weight"] = arrays["mean.weight"] * half
        arrays["mean.bias"] = arrays["mean.bias"] * half + middle
        arrays[LOG_STD] = np.clip(net.log_std, LOG_STD_MIN, LOG_STD_MAX) + np.log(half)
    if net.shape.activation == "tanh":
        arrays[TANH] = np.ones(1, np.int8)
    arrays |= normaliser_arrays(state.inputs.mean, state.inputs.scale, INPUT_LIMIT)
    return arrays | given_arrays(state.features, state.prior, state.bounds)


def gone_back(state: PPOState, arrays: Mapping[str, NDArray[Any]]) -> PPOState:
    """The state with the weights and the normaliser of a policy of its net, and fresh optimiser state.

    The critic stays: it has learned from the rows of what serves. It sees what the new normaliser gives it.
    """
    if state.bounds is None:
        weights = parameters_from_arrays(arrays, state.policy.shape)
    else:
        (middle, half), weight, bias = state.unit, arrays["mean.weight"], arrays["mean.bias"]
        scaled = {**arrays, "mean.weight": weight / half, "mean.bias": (bias - middle) / half}
        log_std = torch.from_numpy((arrays[LOG_STD] - np.log(half)).astype(np.float32))
        weights = torch.cat([parameters_from_arrays(scaled, state.policy.shape), log_std])
    inputs = normalising(state.inputs, arrays[OBSERVATION_MEAN], arrays[OBSERVATION_SCALE])
    critic = _net(state.critic.shape, _renormalised(state.critic, state.inputs, inputs))
    return dataclasses.replace(
        state, policy=_net(state.policy.shape, weights), averaged=weights.clone(), critic=critic, inputs=inputs
    )


def _renormalised(net: Net, before: Moments, after: Moments) -> torch.Tensor:
    """A net's parameters, with the first layer so that it gives for inputs normalised anew what it gave before."""
    parameters, width = net.parameters.clone(), len(before.mean)
    if after is not before:
        weight, bias = split_layers(parameters, net.shape)[0]
        carry_over(before, after, weight[:width], bias)
    return parameters


def state_to_arrays(state: PPOState) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The state as arrays and JSON-able metadata, for `checkpoint.pack`; the arrays are copies."""
    arrays = {"averaged": state.averaged.numpy().copy()} | given_arrays(state.features, state.prior, state.bounds)
    for name, net in (("policy", state.policy), ("critic", state.critic)):
        arrays |= {f"{name}/{vector}": getattr(net, vector).numpy().copy() for vector in _VECTORS}
    for name in _MOMENTS:
        moments = getattr(state, name)
        arrays |= {f"{name}/mean": moments.mean.copy(), f"{name}/square": moments.square.copy()}
    meta: dict[str, Any] = {
        "algorithm": "ppo",
        "config": dataclasses.asdict(state.config),
        "observation_width": len(state.inputs.mean),
        "actions": state.policy.shape.outputs,
        "moment_rows": [state.inputs.rows, state.privileged.rows],
        "steps": [state.policy.steps, state.critic.steps],
        "rewards": list(state.rewards),
        "value": [state.value_mean, state.value_scale],
        "rows": state.rows,
        "version": state.version,
        "rng": generator_to_meta(state.rng),
    }
    return arrays, meta


def state_from_arrays(arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> PPOState:
    """The inverse of `state_to_arrays`: training goes on to identical weights.

    Raises ValueError where the metadata is not of this algorithm, or the arrays don't fit it.
    """
    require_algorithm(meta, "ppo")
    state = init(
        PPOConfig(**meta["config"]),
        meta["observation_width"],
        meta["actions"],
        seed=0,
        bounds=np.stack([arrays[ACTION_LOW], arrays[ACTION_HIGH]]) if ACTION_LOW in arrays else None,
        features=arrays.get(FEATURES),
        prior=prior_from_arrays(arrays, meta["observation_width"], meta["actions"]),
        privileged_width=len(arrays["privileged/mean"]),
    )
    inputs, privileged = (
        Moments(rows, arrays[f"{name}/mean"].copy(), arrays[f"{name}/square"].copy())
        for name, rows in zip(_MOMENTS, meta["moment_rows"], strict=True)
    )
    return dataclasses.replace(
        state,
        policy=_restored(state.policy, "policy", arrays, meta["steps"][0]),
        critic=_restored(state.critic, "critic", arrays, meta["steps"][1]),
        averaged=_fitting(arrays["averaged"], state.averaged, "averaged"),
        inputs=inputs,
        privileged=privileged,
        rewards=RewardScale(*meta["rewards"]),
        value_mean=meta["value"][0],
        value_scale=meta["value"][1],
        rows=meta["rows"],
        version=meta["version"],
        rng=generator_from_meta(meta["rng"]),
    )


def _restored(net: Net, name: str, arrays: Mapping[str, NDArray[Any]], steps: int) -> Net:
    parameters, first_moment, second_moment = (
        _fitting(arrays[f"{name}/{vector}"], net.parameters, f"{name}/{vector}") for vector in _VECTORS
    )
    return Net(net.shape, parameters, first_moment, second_moment, steps)


def _fitting(array: NDArray[Any], like: torch.Tensor, name: str) -> torch.Tensor:
    if array.shape != tuple(like.shape):
        raise ValueError(f"{name}: expected shape {tuple(like.shape)}, found {array.shape}; is it this network?")
    return torch.from_numpy(array.astype(np.float32))
