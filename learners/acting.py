"""Acting from plain arrays. NumPy only: the fleet never imports torch.

The observation normaliser is folded into the first layer and the two dueling heads into one, so
that a decision is one matrix product per hidden layer and one more.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from headrace.learners.checkpoint import unpack

OBSERVATION_MEAN = "observation.mean"
OBSERVATION_SCALE = "observation.scale"


class Policy:
    """A greedy or epsilon-greedy policy over the values of a dueling network.

    Not for use by two threads at once: `decide` writes into buffers of its own.

    Args:
        arrays: `hidden_<i>.weight` [inputs, outputs], `hidden_<i>.bias`, `value.*`, `advantage.*`,
            and optionally `observation.mean` and `observation.scale` (float[D]; the network sees
            (obs - mean) / scale).

    Attributes:
        observation_width: D.
        actions: A.

    Raises:
        ValueError: an array is missing, doesn't fit its neighbours, or isn't finite.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._layers = _folded_layers(arrays)
        self.observation_width = self._layers[0][0].shape[0]
        self.actions = self._layers[-1][0].shape[1]
        # One row more holds the bias, and each input ends in a 1 to meet it: a product adds it for free.
        self._matrices = [np.ascontiguousarray(np.vstack([weight, bias])) for weight, bias in self._layers]
        self._inputs = [np.ones(len(matrix), np.float32) for matrix in self._matrices]
        self._observation = self._inputs[0][:-1]
        self._hidden = [
            (given, matrix, following[:-1])
            for given, matrix, following in zip(self._inputs[:-1], self._matrices[:-1], self._inputs[1:], strict=True)
        ]
        self._values = np.empty(self.actions, np.float32)

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Policy":
        """Load from safetensors bytes, as `headrace.learners.checkpoint.pack` writes them.

        Raises:
            CorruptDataError: the bytes are not a safetensors file.
            ValueError: its arrays are not a policy's.
        """
        return cls(unpack(payload)[0])

    def q_values(self, obs: np.ndarray) -> np.ndarray:
        """Values of all actions.

        Args:
            obs: float32[B, D], as the environment gives it.

        Returns:
            float32[B, A].
        """
        assert obs.ndim == 2, obs.shape
        assert obs.shape[1] == self.observation_width, (obs.shape, self.observation_width)
        features: np.ndarray = obs.astype(np.float32, copy=False)
        for weight, bias in self._layers[:-1]:
            features = features @ weight
            features += bias
            np.maximum(features, 0.0, out=features)
        weight, bias = self._layers[-1]
        values: np.ndarray = features @ weight + bias
        return values

    def act(self, obs: np.ndarray, epsilon: float | np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Epsilon-greedy actions; the draws taken from `rng` depend on B alone.

        Args:
            obs: float32[B, D].
            epsilon: probability of a uniformly random action, one for all or float[B].
            rng: the caller's generator.

        Returns:
            int64[B].
        """
        greedy = self.q_values(obs).argmax(axis=1)
        explores = rng.random(len(obs)) < epsilon
        return np.where(explores, rng.integers(self.actions, size=len(obs)), greedy)

    def decide(self, obs: np.ndarray) -> int:
        """The greedy action for one observation, float32[D]; about 5 µs."""
        self._observation[:] = obs
        for given, matrix, following in self._hidden:
            np.dot(given, matrix, out=following)
            np.maximum(following, 0.0, out=following)
        np.dot(self._inputs[-1], self._matrices[-1], out=self._values)
        return int(self._values.argmax())


def epsilon_at(step: int, start: float, end: float, decay_steps: int) -> float:
    """Exploration that falls linearly from `start` to `end` over `decay_steps`, then stays.

    Args:
        step: environment steps taken so far, by all agents together.
        start: epsilon at step 0.
        end: epsilon from `decay_steps` on.
        decay_steps: length of the ramp in steps; 0 for none.
    """
    assert step >= 0, step
    if step >= decay_steps:
        return end
    return start + (end - start) * step / decay_steps


def _folded_layers(arrays: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight and bias per layer in float32, the normaliser and the dueling heads folded in.

    Folded in float64: (x - mean) / scale @ W + b = x @ (W / scale) + (b - mean / scale @ W), and
    v + a - mean(a) is linear in both heads.
    """
    hidden = sum(name.startswith("hidden_") and name.endswith(".weight") for name in arrays)
    layers = [_layer(arrays, f"hidden_{i}") for i in range(hidden)]
    (value_weight, value_bias), (weight, bias) = _layer(arrays, "value"), _layer(arrays, "advantage")
    weight = value_weight + weight - weight.mean(axis=1, keepdims=True)
    layers.append((weight, value_bias + bias - bias.mean()))
    weight, bias = layers[0]
    mean = np.asarray(arrays.get(OBSERVATION_MEAN, np.zeros(len(weight))), np.float64)
    scale = np.asarray(arrays.get(OBSERVATION_SCALE, np.ones(len(weight))), np.float64)
    if mean.shape != (len(weight),) or scale.shape != mean.shape or not (scale > 0.0).all():
        raise ValueError(f"the normaliser needs a mean and a positive scale for each of {len(weight)} inputs")
    layers[0] = (weight / scale[:, None], bias - (mean / scale) @ weight)
    _require_chain(layers)
    return [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers]


def _layer(arrays: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = arrays.get(f"{name}.weight"), arrays.get(f"{name}.bias")
    if weight is None or bias is None:
        raise ValueError(f"a policy needs {name}.weight and {name}.bias; found {sorted(arrays)}")
    if weight.ndim != 2 or bias.shape != weight.shape[1:]:
        raise ValueError(f"layer {name}: weight {weight.shape} and bias {bias.shape} do not fit")
    return weight.astype(np.float64), bias.astype(np.float64)


def _require_chain(layers: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for (before, _), (after, _) in itertools.pairwise(layers):
        if before.shape[1] != after.shape[0]:
            raise ValueError(f"layers do not fit: {before.shape} is followed by {after.shape}")
    if not all(np.isfinite(weight).all() and np.isfinite(bias).all() for weight, bias in layers):
        raise ValueError("the policy's weights are not all finite; it must not act")
