"""DQN's state, and its state as arrays and metadata and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.learners.acting import (
    FEATURES,
    OBSERVATION_MEAN,
    OBSERVATION_SCALE,
    Seen,
    given_arrays,
    network_inputs,
    normaliser_arrays,
)
from headrace.learners.checkpoint import generator_from_meta, generator_to_meta, require_algorithm
from headrace.learners.dqn.config import DQNConfig
from headrace.learners.nets.dueling import DuelingNetwork, DuelingShape, heads_of, initial_dueling
from headrace.learners.nets.mlp import arrays_from_parameters, parameters_from_arrays
from headrace.learners.nets.normaliser import INPUT_LIMIT, Moments, no_moments, normalising
from headrace.learners.nets.rewards import RewardScale
from headrace.learners.prior import RulePrior, prior_from_arrays

_VECTORS = ("parameters", "target", "averaged", "first_moment", "second_moment")


@dataclasses.dataclass(frozen=True, eq=False)
class DQNState:
    """All that learning goes on from. The vectors are float32[P]."""

    config: DQNConfig
    shape: DuelingShape
    parameters: torch.Tensor  # online weights
    target: torch.Tensor  # weights that are bootstrapped from
    averaged: torch.Tensor  # weights that act
    first_moment: torch.Tensor  # Adam's mean gradient
    second_moment: torch.Tensor  # Adam's mean squared gradient
    inputs: Moments  # of the observations, of which the normaliser is made
    rewards: RewardScale
    unit: float  # the reward that is 1 in the networks' outputs
    fading: float  # mean share of a value that is gone a step later: 1 - gamma, 1 at an end
    terminates: bool  # whether any row so far ended its episode
    updates: int  # done
    rng: np.random.Generator  # for drawing from replay; it advances in place
    features: NDArray[np.float32] | None = None  # [D, K], sums of the observation that the network sees beside it
    prior: RulePrior | None = None  # a rule's values, to which the network adds
    passes: "Passes | None" = None  # what passes need, if they were made yet; nothing that is learned


class Passes:
    """Views of a state's vectors by layers, and a gradient: made once, good while the vectors are written in place.

    Not for use by two threads at once: each pass writes into buffers.
    """

    def __init__(self, state: DQNState) -> None:
        self.online = DuelingNetwork(state.parameters, state.shape)
        self.target = DuelingNetwork(state.target, state.shape)
        self.gradient = DuelingNetwork(torch.zeros_like(state.parameters), state.shape)
        self._inputs: Moments | None = None

    def fit(self, state: DQNState) -> bool:
        """Whether these are views of the state's own vectors."""
        return self.online.flat is state.parameters and self.target.flat is state.target

    def normalised(self, state: DQNState, obs: NDArray[np.float32]) -> torch.Tensor:
        """What the networks see of float32[B, D], as `acting.network_inputs` has it: float32[B, D + K]."""
        if self._inputs is not state.inputs:
            self._inputs = state.inputs
            self._seen = Seen(state.inputs.mean, state.inputs.scale, INPUT_LIMIT)
        return torch.from_numpy(network_inputs(obs, self._seen, state.features))


def passes_of(state: DQNState) -> Passes:
    """The state's own, or new ones."""
    return state.passes if state.passes is not None and state.passes.fit(state) else Passes(state)


def init(
    config: DQNConfig,
    observation_width: int,
    actions: int,
    seed: int,
    *,
    features: NDArray[np.float32] | None = None,
    prior: RulePrior | None = None,
) -> DQNState:
    """A state before any update; the seed fixes the weights and the draws from replay.

    features: float32[D, K], linear features. prior: a rule whose values the network adds to.
    """
    weights_seed, replay_seed = np.random.SeedSequence(seed).spawn(2)
    width = observation_width + (0 if features is None else features.shape[1])
    shape = DuelingShape(width, config.hidden, actions, config.quantiles)
    parameters = initial_dueling(shape, np.random.default_rng(weights_seed))
    return DQNState(
        config=config,
        shape=shape,
        parameters=parameters,
        target=parameters.clone(),
        averaged=parameters.clone(),
        first_moment=torch.zeros_like(parameters),
        second_moment=torch.zeros_like(parameters),
        inputs=no_moments(observation_width),
        rewards=RewardScale(),
        unit=1.0,
        fading=0.0,
        terminates=False,
        updates=0,
        rng=np.random.default_rng(replay_seed),
        features=features,
        prior=prior,
    )


def policy_arrays(state: DQNState) -> dict[str, NDArray[Any]]:
    """What acts: the averaged weights and the normaliser, float32, for `acting.Policy`; values in the reward's unit."""
    averaged = state.averaged.clone()
    heads_of(averaged, state.shape).mul_(state.unit)
    weights = arrays_from_parameters(averaged, state.shape)
    normaliser = normaliser_arrays(state.inputs.mean, state.inputs.scale, INPUT_LIMIT)
    return weights | normaliser | given_arrays(state.features, state.prior)


def gone_back(state: DQNState, arrays: Mapping[str, NDArray[Any]]) -> DQNState:
    """The state with the weights and the normaliser of a policy of its net, and no momentum.

    The mean squared gradient stays: Adam's correction for its start is over after so many updates.
    """
    weights = parameters_from_arrays(arrays, state.shape)
    heads_of(weights, state.shape).div_(state.unit)
    return dataclasses.replace(
        state,
        parameters=weights,
        target=weights.clone(),
        averaged=weights.clone(),
        first_moment=torch.zeros_like(weights),
        inputs=normalising(state.inputs, arrays[OBSERVATION_MEAN], arrays[OBSERVATION_SCALE]),
        passes=None,
    )


def state_to_arrays(state: DQNState) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The state as arrays and JSON-able metadata, for `checkpoint.pack`; the arrays are copies."""
    arrays: dict[str, NDArray[Any]] = {
        f"{vector}/{name}": array
        for vector in _VECTORS
        for name, array in arrays_from_parameters(getattr(state, vector), state.shape).items()
    }
    arrays |= {"observation_mean": state.inputs.mean.copy(), "observation_square": state.inputs.square.copy()}
    arrays |= given_arrays(state.features, state.prior)
    meta: dict[str, Any] = {
        "algorithm": "dqn",
        "config": dataclasses.asdict(state.config),
        "observation_width": state.shape.inputs,
        "actions": state.shape.actions,
        "observation_rows": state.inputs.rows,
        "rewards": list(state.rewards),
        "unit": state.unit,
        "fading": state.fading,
        "terminates": state.terminates,
        "updates": state.updates,
        "rng": generator_to_meta(state.rng),
    }
    return arrays, meta


def state_from_arrays(arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> DQNState:
    """The inverse of `state_to_arrays`: training goes on to identical weights.

    Raises ValueError where the metadata is not of this algorithm, or the arrays don't fit it.
    """
    require_algorithm(meta, "dqn")
    features, actions = arrays.get(FEATURES), meta["actions"]
    width = meta["observation_width"] - (0 if features is None else features.shape[1])
    prior = prior_from_arrays(arrays, width, actions)
    state = init(DQNConfig(**meta["config"]), width, actions, seed=0, features=features, prior=prior)
    vectors: dict[str, Any] = {
        name: parameters_from_arrays(_below(arrays, f"{name}/"), state.shape) for name in _VECTORS
    }
    mean, square = arrays["observation_mean"].copy(), arrays["observation_square"].copy()
    return dataclasses.replace(
        state,
        **vectors,
        inputs=Moments(meta["observation_rows"], mean, square),
        rewards=RewardScale(*meta["rewards"]),
        unit=meta["unit"],
        fading=meta["fading"],
        terminates=meta["terminates"],
        updates=meta["updates"],
        rng=generator_from_meta(meta["rng"]),
    )


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
