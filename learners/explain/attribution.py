"""Integrated gradients of an acting network: how much each observation did for what the policy computed. NumPy only.

From a baseline to the observation runs a straight line. Each short step of it changes the target by the sum of what
each feature's own change does, so that all features together give the whole difference (completeness). Rules have no
slopes: where another rule decides, the features share the change whose conditions turned there.

Source: Sundararajan, Taly, Yan (2017), "Axiomatic Attribution for Deep Networks".
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Network, Policy
from headrace.learners.rules.network import RuleNetwork

STEPS: Final = 64
"""Of the line."""
LEAST_MOVE: Final = 1e-9
"""A unit that moves by less in a step has a derivative there, but no slope that a computer can tell."""
_FRAME: Final = re.compile(r"(.+)_t(?:-([0-9]+))?")
"""How stacked frames of one observation are named: rate_t-1, rate_t."""

FloatArray = NDArray[np.float64]
Target = Callable[[FloatArray], FloatArray]
"""Of outputs float64[N + 1, A] along a line: by how much the target changes for each output's change, float64[N, A]."""


def lead_over(action: int, rival: int) -> Target:
    """Return the target "the value of an action less another's"."""

    def secants(outputs: FloatArray) -> FloatArray:
        found = np.zeros((len(outputs) - 1, outputs.shape[1]))
        found[:, action] += 1.0
        found[:, rival] -= 1.0
        return found

    return secants


def log_probability(action: int) -> Target:
    """Return the target "the log-probability of an action under the outputs' softmax"."""

    def gradient(outputs: FloatArray) -> FloatArray:
        return np.asarray(np.eye(outputs.shape[1])[action] - softmax(outputs), np.float64)

    def secants(outputs: FloatArray) -> FloatArray:
        first, last = outputs[:-1], outputs[1:]
        # Simpson's rule: a prior's outputs jump, so that a step is not always short.
        return (gradient(first) + 4.0 * gradient((first + last) / 2.0) + gradient(last)) / 6.0

    return secants


def within(dimension: int, low: float, high: float, unit: float) -> Target:
    """Return the target "a dimension of the action, cut to its bounds, in units of so much"."""

    def secants(outputs: FloatArray) -> FloatArray:
        found, column = np.zeros((len(outputs) - 1, outputs.shape[1])), outputs[:, dimension]
        moves, moved = np.diff(column), np.diff(np.clip(column, low, high))
        found[:, dimension] = np.divide(moved, moves, out=np.zeros_like(moves), where=moves != 0.0) / unit
        return found

    return secants


def softmax(outputs: FloatArray) -> FloatArray:
    """Return probabilities of logits: float64[B, A] of float64[B, A]."""
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float64)


def attributed(
    policy: Policy | BoxPolicy, baseline: FloatArray, obs: NDArray[np.float32], target: Target
) -> FloatArray:
    """Return each feature's part of the target at an observation less the target at the baseline: float64[D].

    baseline: float64[D]. obs: float32[D].
    """
    assert baseline.shape == obs.shape, (baseline.shape, obs.shape)
    change = obs.astype(np.float64) - baseline
    line = baseline + np.linspace(0.0, 1.0, STEPS + 1)[:, None] * change
    if isinstance(policy.network, RuleNetwork):
        outputs = policy.network.outputs_of(line).astype(np.float64)
        jumps = (target(outputs) * np.diff(outputs, axis=0)).sum(axis=1)
        return np.asarray(jumps @ policy.network.turning(line), np.float64)
    outputs, slopes = _forward(policy.network, line)
    given = _prior(policy, line)
    weights = target(outputs + given)
    found = (_back(policy.network, weights, slopes) * (change / STEPS)).sum(axis=0)
    # A prior is a staircase along one sum of the observation: a step of it belongs to features by their part in it.
    parts = policy.prior.weight * change if isinstance(policy, Policy) and policy.prior else np.zeros_like(change)
    total = float(parts.sum())
    steps = float((weights * np.diff(given, axis=0)).sum())
    return np.asarray(found + (steps / total * parts if total else 0.0), np.float64)


def _prior(policy: Policy | BoxPolicy, obs: FloatArray) -> FloatArray:
    if isinstance(policy, Policy) and policy.prior is not None:
        return policy.prior.logits(obs.astype(np.float32)).astype(np.float64)
    return np.zeros((len(obs), policy.actions))


def _forward(network: Network, line: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
    """Return outputs float64[N + 1, A] of points on a line, and for each step and unit its slope: what comes out of it.

    Slopes over a step, not derivatives in it, so that a step is exact even where a unit switches on
    (Shrikumar, Greenside, Kundaje (2017), "Learning Important Features Through Propagating Activation Differences").
    """
    given = np.clip(line, network.low, network.high)
    slopes = [_slopes(line, given, (line > network.low) & (line < network.high))]
    for weight, bias in network.layers[:-1]:
        sums = given @ weight + bias
        given = np.tanh(sums) if network.tanh else np.maximum(sums, 0.0)
        slopes.append(_slopes(sums, given, 1.0 - given * given if network.tanh else sums > 0.0))
    weight, bias = network.layers[-1]
    return given @ weight + bias, slopes


def _slopes(entering: FloatArray, leaving: FloatArray, derivative: NDArray[np.generic]) -> FloatArray:
    """Return float64[N, H] of [N + 1, H]; the derivative where nothing enters."""
    moves = np.diff(entering, axis=0)
    still = np.abs(moves) < LEAST_MOVE
    found = np.diff(leaving, axis=0) / np.where(still, 1.0, moves)
    return np.where(still, derivative[:-1], found)


def _back(network: Network, weights: FloatArray, slopes: Sequence[FloatArray]) -> FloatArray:
    """Return each step's weighted sum of outputs for each unit of an observation: float64[N, D] of float64[N, A]."""
    back = weights @ network.layers[-1][0].T
    for (weight, _), slope in zip(network.layers[-2::-1], slopes[:0:-1], strict=True):
        back = (back * slope) @ weight.T
    return np.asarray(back * slopes[0], np.float64)


def by_name(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the places of D features by the observation that they are of; of stacked frames the newest is last.

    What merely ends in _t is an observation of its own: frames have one before them, and none has their name alone.
    """
    matches = [_FRAME.fullmatch(name) for name in names]
    stacked = {match[1] for match in matches if match and match[2]} - {*names}
    found: dict[str, list[tuple[int, int]]] = {}
    for place, (name, match) in enumerate(zip(names, matches, strict=True)):
        base, age = (match[1], int(match[2] or 0)) if match and match[1] in stacked else (name, 0)
        found.setdefault(base, []).append((-age, place))
    return {base: tuple(place for _, place in sorted(places)) for base, places in found.items()}
