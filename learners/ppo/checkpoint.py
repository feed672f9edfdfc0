"""PPO's state as arrays and metadata, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from headrace.learners.acting import ACTION_HIGH, ACTION_LOW, FEATURES
from headrace.learners.checkpoint import generator_from_meta, generator_to_meta
from headrace.learners.nets.normaliser import Moments
from headrace.learners.ppo.state import Net, PPOConfig, PPOState, given_arrays, init
from headrace.learners.prior import prior_from_arrays

_VECTORS = ("parameters", "first_moment", "second_moment")
_MOMENTS = ("inputs", "privileged")


def state_to_arrays(state: PPOState) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The state as arrays and JSON-able metadata, for `checkpoint.pack`; the arrays are copies."""
    arrays = {"averaged": state.averaged.numpy().copy()} | given_arrays(state)
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
        "value": [state.value_mean, state.value_scale],
        "rows": state.rows,
        "version": state.version,
        "rng": generator_to_meta(state.rng),
    }
    return arrays, meta


def state_from_arrays(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> PPOState:
    """The inverse of `state_to_arrays`: training goes on to identical weights.

    Raises:
        ValueError: the metadata is not of this algorithm, or the arrays don't fit it.
    """
    if meta.get("algorithm") != "ppo":
        raise ValueError(f"expected a checkpoint of algorithm 'ppo', found {meta.get('algorithm')!r}")
    bounds = np.stack([arrays[ACTION_LOW], arrays[ACTION_HIGH]]) if ACTION_LOW in arrays else None
    state = init(
        PPOConfig(**meta["config"]),
        meta["observation_width"],
        meta["actions"],
        seed=0,
        bounds=bounds,
        features=arrays.get(FEATURES),
        prior=prior_from_arrays(arrays, meta["observation_width"], meta["actions"]),
        privileged_width=len(arrays["privileged/mean"]),
    )
    moments = [
        Moments(rows, arrays[f"{name}/mean"].copy(), arrays[f"{name}/square"].copy())
        for name, rows in zip(_MOMENTS, meta["moment_rows"], strict=True)
    ]
    return dataclasses.replace(
        state,
        policy=_restored(state.policy, "policy", arrays, meta["steps"][0]),
        critic=_restored(state.critic, "critic", arrays, meta["steps"][1]),
        averaged=_fitting(arrays["averaged"], state.averaged, "averaged"),
        inputs=moments[0],
        privileged=moments[1],
        value_mean=meta["value"][0],
        value_scale=meta["value"][1],
        rows=meta["rows"],
        version=meta["version"],
        rng=generator_from_meta(meta["rng"]),
    )


def _restored(net: Net, name: str, arrays: Mapping[str, np.ndarray], steps: int) -> Net:
    first, second, third = (
        _fitting(arrays[f"{name}/{vector}"], net.parameters, f"{name}/{vector}") for vector in _VECTORS
    )
    return Net(net.shape, first, second, third, steps)


def _fitting(array: np.ndarray, like: torch.Tensor, name: str) -> torch.Tensor:
    if array.shape != tuple(like.shape):
        raise ValueError(f"{name}: expected shape {tuple(like.shape)}, found {array.shape}; is it this network?")
    return torch.from_numpy(array.astype(np.float32))
