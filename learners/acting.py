"""Acting from plain arrays. NumPy only: the fleet never imports torch.

The observation normaliser and the linear features are folded into the first layer, and dueling heads into one, so that
a decision is one matrix product per hidden layer and one more; a prior costs two more small calls.

A policy's arrays say all that it is:

- `hidden_<i>.weight` [inputs, outputs] and `.bias`, first to last.
- its head: `value.*` and `advantage.*` (dueling values; with Q quantiles each, A * Q columns), or
  `logits.*` (a softmax policy), or `mean.*` and `log_std` (a diagonal Gaussian).
- optional `observation.mean` and `observation.scale`: the network sees (obs - mean) / scale.
- optional `observation.limit` [1]: of an observation it sees no more than lies within so many scales of the mean.
- optional `features.weight` float32[D, K]: it also sees these K sums of the observation, cut off likewise.
- optional `activation.tanh`: hidden layers are tanh, else ReLU.
- optional `prior.*`: see `headrace.learners.prior`.
- optional `action.low`, `action.high`: bounds that continuous actions are cut to.
- instead of layers, head and normaliser `rules.*`: see `headrace.learners.rules.network`.
"""

import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.learners.checkpoint import unpack
from headrace.learners.prior import RulePrior, prior_from_arrays, prior_to_arrays
from headrace.learners.rules import network as rules
from headrace.learners.tails import log_prob_of, log_tail_of, side_of

OBSERVATION_MEAN = "observation.mean"
OBSERVATION_SCALE = "observation.scale"
OBSERVATION_LIMIT = "observation.limit"
FEATURES = "features.weight"
TANH = "activation.tanh"
LOG_STD = "log_std"
ACTION_LOW, ACTION_HIGH = "action.low", "action.high"

Floats = NDArray[np.floating]
Arrays = dict[str, NDArray[Any]]
_Layers = list[tuple[Floats, Floats]]


class Seen:
    """How a network sees observations: (obs - mean) / scale, cut off at `limit` scales from the mean.

    low, high: float32[D], where they are cut off; infinite where there is no limit.
    """

    def __init__(self, mean: Floats, scale: Floats, limit: float) -> None:
        self.mean, self.factor = mean.astype(np.float32), np.reciprocal(scale).astype(np.float32)
        self.low, self.high = ((mean + reach).astype(np.float32) for reach in (-limit * scale, limit * scale))


class Network:
    """The folded layers, in batches and for one observation.

    Not for use by two threads at once: `outputs_of_one` writes into buffers of its own.
    """

    def __init__(self, layers: _Layers, low: Floats, high: Floats, *, tanh: bool) -> None:
        """low, high: float32[D], where observations are cut off."""
        self.inputs = layers[0][0].shape[0]
        self.low, self.high = low, high
        self.outputs = layers[-1][0].shape[1]
        self.layers = layers
        self.tanh = tanh
        # One row more holds the bias, and each input ends in a 1 to meet it: a product adds it for free.
        self._matrices = [np.ascontiguousarray(np.vstack([weight, bias])) for weight, bias in layers]
        self._inputs = [np.ones(len(matrix), np.float32) for matrix in self._matrices]
        self._observation = self._inputs[0][:-1]
        # Zeros of its size: a ufunc takes twice as long where it must make an array of the number 0 first.
        self._hidden = [
            (given, matrix, following[:-1], np.zeros_like(following[:-1]))
            for given, matrix, following in zip(self._inputs[:-1], self._matrices[:-1], self._inputs[1:], strict=True)
        ]
        self._result = np.empty(self.outputs, np.float32)

    def outputs_of(self, obs: Floats) -> Floats:
        """float32[B, D] -> float32[B, outputs]."""
        assert obs.ndim == 2, obs.shape
        assert obs.shape[1] == self.inputs, (obs.shape, self.inputs)
        given: Floats = np.clip(obs.astype(np.float32, copy=False), self.low, self.high)
        for weight, bias in self.layers[:-1]:
            given = given @ weight
            given += bias
            if self.tanh:
                np.tanh(given, out=given)
            else:
                np.maximum(given, 0.0, out=given)
        weight, bias = self.layers[-1]
        result: Floats = given @ weight + bias
        return result

    def outputs_of_one(self, obs: Floats) -> Floats:
        """float32[D] -> float32[outputs], a buffer that the next call overwrites."""
        np.maximum(obs, self.low, out=self._observation)
        np.minimum(self._observation, self.high, out=self._observation)
        for given, matrix, following, zero in self._hidden:
            given.dot(matrix, following)
            if self.tanh:
                np.tanh(following, out=following)
            else:
                np.maximum(following, zero, out=following)
        return self._inputs[-1].dot(self._matrices[-1], self._result)


class Policy:
    """A policy over A discrete actions: the greatest value or logit, or, where `softmax`, a draw.

    Its arrays hold values or logits. Raises ValueError where one is missing, doesn't fit its neighbours, or isn't
    finite. Not for use by two threads at once, as its `Network`.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.softmax = "logits.weight" in arrays or rules.LOGITS in arrays
        self.network = _network(arrays)
        self.observation_width = self.network.inputs
        self.actions = self.network.outputs
        self.prior: RulePrior | None = prior_from_arrays(arrays, self.observation_width, self.actions)

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Policy":
        """Load what `checkpoint.pack` wrote; raises CorruptDataError for no safetensors file, or as `Policy` does."""
        return cls(unpack(payload)[0])

    def q_values(self, obs: Floats) -> Floats:
        """Each action's value, or its logit where the policy is a softmax one: raw float32[B, D] -> float32[B, A]."""
        values = self.network.outputs_of(obs)
        if self.prior is not None:
            values += self.prior.logits(obs)
        return values

    def act(self, obs: Floats, epsilon: float | Floats, rng: np.random.Generator) -> NDArray[np.intp]:
        """Epsilon-greedy actions, float32[B, D] -> int64[B]; the draws taken from `rng` depend on B alone.

        epsilon: probability of a uniformly random action, one for all or float[B].
        """
        return self.explore(obs, epsilon, rng)[0]

    def explore(
        self, obs: Floats, epsilon: float | Floats, rng: np.random.Generator
    ) -> tuple[NDArray[np.intp], Floats]:
        """As `act`; and the actions' log-probabilities, float64[B]."""
        greedy = self.q_values(obs).argmax(axis=1)
        explores = rng.random(len(obs)) < epsilon
        actions = np.where(explores, rng.integers(self.actions, size=len(obs)), greedy)
        share = np.asarray(epsilon) / self.actions
        return actions, np.log(np.where(actions == greedy, 1.0 - epsilon + share, share))

    def explore_one(self, obs: Floats, epsilon: float, rng: np.random.Generator) -> tuple[int, float]:
        """Choose epsilon-greedily for one observation, float32[D]; and the action's log-probability."""
        action, share = self.decide(obs), epsilon / self.actions
        if rng.random() < epsilon:
            drawn = int(rng.random() * self.actions)
            if drawn != action:
                return drawn, math.log(share)
        return action, math.log(1.0 - epsilon + share)

    def sample(self, obs: Floats, rng: np.random.Generator) -> tuple[NDArray[np.intp], Floats]:
        """Draw actions int64[B] from the softmax of the logits; and their log-probabilities, float32[B]."""
        logits = self.q_values(obs)
        logits -= logits.max(axis=1, keepdims=True)
        # The greatest of logits with Gumbel noise is a draw from their softmax (Gumbel 1954).
        waits = np.maximum(rng.standard_exponential(logits.shape, dtype=np.float32), np.float32(1e-30))
        noise = -np.log(waits)
        actions = (logits + noise).argmax(axis=1)
        taken = np.take_along_axis(logits, actions[:, None], axis=1)[:, 0]
        return actions, taken - np.log(np.exp(logits).sum(axis=1))

    def sample_one(self, obs: Floats, rng: np.random.Generator) -> tuple[int, float]:
        """Draw an action for one observation, float32[D], as `sample` does; and its log-probability."""
        logits = self._values_of_one(obs).tolist()
        greatest = max(logits)
        ends = [*itertools.accumulate(math.exp(logit - greatest) for logit in logits)]
        action = min(bisect_right(ends, rng.random() * ends[-1]), self.actions - 1)
        return action, logits[action] - greatest - math.log(ends[-1])

    def decide(self, obs: Floats) -> int:
        """The greedy action for one observation, float32[D]; about 4 µs."""
        return int(self._values_of_one(obs).argmax())

    def _values_of_one(self, obs: Floats) -> Floats:
        values = self.network.outputs_of_one(obs)
        if self.prior is not None:
            values += self.prior.logits_of_one(obs)
        return values


class BoxPolicy:
    """A policy over continuous actions of A dimensions: the mean, or a draw from independent normals cut to bounds.

    Its arrays hold `mean.*` and `log_std`. Raises ValueError as `Policy` does.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.network = _network(arrays)
        self.observation_width = self.network.inputs
        self.actions = self.network.outputs
        self.log_std = _row(arrays, LOG_STD, self.actions, 0.0)
        self.low = _row(arrays, ACTION_LOW, self.actions, -np.inf)
        self.high = _row(arrays, ACTION_HIGH, self.actions, np.inf)
        self._std: Floats = np.exp(self.log_std)
        at_mean = -self.log_std.astype(np.float64) - 0.5 * math.log(2.0 * math.pi)
        of_each = (self._std, at_mean, self.low, self.high)
        self._each = [*zip(*(values.tolist() for values in of_each), strict=True)]

    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and the highest value of each dimension, float64[A]; infinite where there is none."""
        return self.low.astype(np.float64), self.high.astype(np.float64)

    def cut(self, actions: NDArray[Any]) -> Floats:
        """Actions within the bounds, as the environment takes them: float32[..., A]."""
        bounded: Floats = np.minimum(np.maximum(actions, self.low), self.high)  # np.clip takes thrice as long
        return bounded

    def act(self, obs: Floats) -> Floats:
        """The means, float32[B, A], within the bounds."""
        return self.cut(self.network.outputs_of(obs))

    def sample(self, obs: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw actions float32[B, A] and cut them to the bounds; and their log-probabilities, as `log_prob`."""
        mean = self.network.outputs_of(obs)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        actions = self.cut(mean + self._std * noise)
        return actions, self._log_prob(actions, mean)

    def sample_one(self, obs: Floats, rng: np.random.Generator) -> tuple[Floats, float]:
        """Draw an action float32[A] for one observation, float32[D], as `sample` does; and its log-probability.

        Number by number: of few dimensions that takes a third of the time.
        """
        action, log_prob = [], 0.0
        means, noise = self.network.outputs_of_one(obs).tolist(), rng.standard_normal((self.actions,)).tolist()
        for mean, (std, at_mean, low, high), z in zip(means, self._each, noise, strict=True):
            taken = mean + std * z
            if low < taken < high:
                log_prob += at_mean - 0.5 * z * z
            else:
                taken = low if taken <= low else high
                log_prob += log_tail_of((taken - mean) / std * (1.0 if taken == high else -1.0))
            action.append(taken)
        return np.array(action, np.float32), log_prob

    def log_prob(self, obs: Floats, actions: Floats) -> Floats:
        """Log-probabilities of actions, float32[B, A] -> float32[B].

        Summed over dimensions: within the bounds the log-density, in the action's unit; at a bound the log-probability
        of what lies there or beyond, as draws are cut.
        """
        return self._log_prob(self.cut(actions), self.network.outputs_of(obs))

    def _log_prob(self, actions: Floats, mean: Floats) -> Floats:
        standardised = (actions - mean) / self._std
        log_prob: Floats = log_prob_of(standardised, self.log_std, side_of(actions, self.low, self.high)).sum(axis=1)
        return log_prob

    def decide(self, obs: Floats) -> Floats:
        """The mean for one observation, float32[D] -> float32[A]."""
        return self.cut(self.network.outputs_of_one(obs))


def load_policy(payload: bytes) -> Policy | BoxPolicy:
    """The policy that the bytes are, of whichever kind. Raises as `Policy.from_bytes` does."""
    arrays = unpack(payload)[0]
    return BoxPolicy(arrays) if "mean.weight" in arrays or rules.MEAN in arrays else Policy(arrays)


def epsilon_at(step: int, start: float, end: float, decay_steps: int) -> float:
    """Exploration that falls linearly from `start` to `end` over `decay_steps` (0 for no ramp), then stays.

    step: environment steps taken so far, by all agents together.
    """
    assert step >= 0, step
    if step >= decay_steps:
        return end
    return start + (end - start) * step / decay_steps


def normaliser_arrays(mean: Floats, scale: Floats, limit: float) -> Arrays:
    """A policy's normaliser as its arrays."""
    numbers = {OBSERVATION_MEAN: mean, OBSERVATION_SCALE: scale, OBSERVATION_LIMIT: np.array([limit])}
    return {name: value.astype(np.float32) for name, value in numbers.items()}


def given_arrays(features: Floats | None, prior: RulePrior | None, bounds: Floats | None = None) -> Arrays:
    """What a policy is given and does not learn, as its arrays: features, a prior, bounds float32[2, A]."""
    arrays: Arrays = {} if features is None else {FEATURES: features}
    if bounds is not None:
        arrays |= {ACTION_LOW: bounds[0], ACTION_HIGH: bounds[1]}
    return arrays | prior_to_arrays(prior)


def network_inputs(obs: Floats, seen: Seen, features: Floats | None) -> Floats:
    """What a network sees: ((cut - mean) / scale, cut @ features), float32[B, D + K] of float32[B, D]."""
    cut: Floats = np.clip(obs, seen.low, seen.high)
    scaled: Floats = (cut - seen.mean) * seen.factor
    return scaled if features is None else np.concatenate([scaled, cut @ features], axis=1)


def _network(arrays: Mapping[str, NDArray[Any]]) -> Network | rules.RuleNetwork:
    if (ruled := rules.rules_of(arrays)) is not None:
        return ruled
    layers = _folded_layers(arrays)
    width = len(layers[0][0])
    mean, scale = _normaliser(arrays, width)
    limit = np.asarray(arrays.get(OBSERVATION_LIMIT, [np.inf]), np.float64)
    if limit.shape != (1,) or not limit[0] > 0.0:
        raise ValueError(f"{OBSERVATION_LIMIT} must hold one positive number, found {limit}")
    seen = Seen(mean, scale, float(limit[0]))
    return Network(layers, seen.low, seen.high, tanh=TANH in arrays)


def _normaliser(arrays: Mapping[str, NDArray[Any]], width: int) -> tuple[Floats, Floats]:
    """Mean and scale, float64[D] each."""
    mean = np.asarray(arrays.get(OBSERVATION_MEAN, np.zeros(width)), np.float64)
    scale = np.asarray(arrays.get(OBSERVATION_SCALE, np.ones(width)), np.float64)
    if mean.shape != (width,) or scale.shape != mean.shape or not (scale > 0.0).all():
        raise ValueError(f"the normaliser needs a mean and a positive scale for each of {width} inputs")
    return mean, scale


def _folded_layers(arrays: Mapping[str, NDArray[Any]]) -> _Layers:
    """Weight and bias per layer in float32, with normaliser, features and dueling heads folded in.

    Folded in float64: (x - mean) / scale @ W + b = x @ (W / scale) + (b - mean / scale @ W), and
    (x, o @ F) @ W = x @ W[:D] + o @ (F @ W[D:]).
    """
    hidden = sum(name.startswith("hidden_") and name.endswith(".weight") for name in arrays)
    layers = [_layer(arrays, f"hidden_{i}") for i in range(hidden)]
    layers.append(_head(arrays))
    weight, bias = layers[0]
    features = np.asarray(arrays.get(FEATURES, np.zeros((len(weight), 0))), np.float64)
    if features.ndim != 2 or sum(features.shape) != len(weight):
        raise ValueError(f"{FEATURES} {features.shape} does not fit {len(weight)} inputs")
    width = len(features)
    mean, scale = _normaliser(arrays, width)
    bias = bias - (mean / scale) @ weight[:width]
    weight = weight[:width] / scale[:, None] + features @ weight[width:]
    layers[0] = (weight, bias)
    _require_chain(layers)
    return [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers]


def _head(arrays: Mapping[str, NDArray[Any]]) -> tuple[Floats, Floats]:
    """The last layer: one column an action. v + a - mean(a) is linear in both dueling heads."""
    for name in ("logits", "mean"):
        if f"{name}.weight" in arrays:
            return _layer(arrays, name)
    (value_weight, value_bias), (weight, bias) = _layer(arrays, "value"), _layer(arrays, "advantage")
    quantiles = max(1, value_weight.shape[1])
    if weight.shape[1] % quantiles:
        raise ValueError(f"advantages {weight.shape} are no multiple of values {value_weight.shape}")
    # A value is the mean of its quantiles.
    weight = weight.reshape(len(weight), -1, quantiles).mean(axis=2)
    bias = bias.reshape(-1, quantiles).mean(axis=1)
    weight = value_weight.mean(axis=1, keepdims=True) + weight - weight.mean(axis=1, keepdims=True)
    return weight, value_bias.mean() + bias - bias.mean()


def _layer(arrays: Mapping[str, NDArray[Any]], name: str) -> tuple[Floats, Floats]:
    weight, bias = arrays.get(f"{name}.weight"), arrays.get(f"{name}.bias")
    if weight is None or bias is None:
        raise ValueError(f"a policy needs {name}.weight and {name}.bias; found {sorted(arrays)}")
    if weight.ndim != 2 or bias.shape != weight.shape[1:]:
        raise ValueError(f"layer {name}: weight {weight.shape} and bias {bias.shape} do not fit")
    return weight.astype(np.float64), bias.astype(np.float64)


def _row(arrays: Mapping[str, NDArray[Any]], name: str, width: int, default: float) -> Floats:
    row = np.asarray(arrays.get(name, np.full(width, default)), np.float32)
    if row.shape != (width,) or np.isnan(row).any():
        raise ValueError(f"{name} must hold {width} numbers, found {row}")
    return row


def _require_chain(layers: _Layers) -> None:
    for (before, _), (after, _) in itertools.pairwise(layers):
        if before.shape[1] != after.shape[0]:
            raise ValueError(f"layers do not fit: {before.shape} is followed by {after.shape}")
    if not all(np.isfinite(weight).all() and np.isfinite(bias).all() for weight, bias in layers):
        raise ValueError("the policy's weights are not all finite; it must not act")
