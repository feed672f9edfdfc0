"""DQN's state, and its state as arrays and metadata and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from headrace.learners.acting import FEATURES, OBSERVATION_MEAN, OBSERVATION_SCALE
from headrace.learners.checkpoint import generator_from_meta, generator_to_meta
from headrace.learners.dqn.config import DQNConfig
from headrace.learners.nets.networks import (
    DuelingNetwork,
    NetworkShape,
    arrays_from_parameters,
    initial_parameters,
    parameters_from_arrays,
)
from headrace.learners.nets.normaliser import Moments, no_moments
from headrace.learners.prior import RulePrior, prior_from_arrays, prior_to_arrays

_VECTORS = ("parameters", "target", "averaged", "first_moment", "second_moment")


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
        passes: what forward and backward passes need, if they were made yet; nothing that is learned.
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
    passes: "Passes | None" = None


class Passes:
    """Views of a state's vectors by layers, and a gradient: made once, good while the vectors are written in place.

    Not for use by two threads at once: each pass writes into buffers.

    Attributes:
        online: of the online weights.
        target: of the target's.
        gradient: of a vector that each update overwrites.
    """

    def __init__(self, state: DQNState) -> None:
        self.online = DuelingNetwork(state.parameters, state.shape)
        self.target = DuelingNetwork(state.target, state.shape)
        self.gradient = DuelingNetwork(torch.zeros_like(state.parameters), state.shape)
        self._inputs: Moments | None = None

    def fit(self, state: DQNState) -> bool:
        """Whether these are views of the state's own vectors."""
        return self.online.flat is state.parameters and self.target.flat is state.target

    def normalised(self, state: DQNState, obs: np.ndarray) -> torch.Tensor:
        """What the networks see of float32[B, D], as `acting.network_inputs` has it: float32[B, D + K]."""
        if self._inputs is not state.inputs:
            self._inputs, self._mean = state.inputs, state.inputs.mean.astype(np.float32)
            self._factor = np.reciprocal(state.inputs.scale).astype(np.float32)
        scaled = obs - self._mean
        scaled *= self._factor
        if state.features is not None:
            scaled = np.concatenate([scaled, obs @ state.features], axis=1)
        return torch.from_numpy(scaled)


def passes_of(state: DQNState) -> Passes:
    """The state's own, or new ones."""
    return state.passes if state.passes is not None and state.passes.fit(state) else Passes(state)


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
    parameters, target, averaged, first_moment, second_moment = (
        parameters_from_arrays(_below(arrays, f"{vector}/"), shape) for vector in _VECTORS
    )
    return DQNState(
        config=config,
        shape=shape,
        parameters=parameters,
        target=target,
        averaged=averaged,
        first_moment=first_moment,
        second_moment=second_moment,
        inputs=Moments(
            meta["observation_rows"], arrays["observation_mean"].copy(), arrays["observation_square"].copy()
        ),
        reward_mean=meta["reward_mean"],
        updates=meta["updates"],
        rng=generator_from_meta(meta["rng"]),
        features=features,
        prior=prior_from_arrays(arrays, width, shape.actions),
    )


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
