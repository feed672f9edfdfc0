"""The dueling network as pure functions of one flat parameter vector.

All parameters lie in one float32 vector and the layers are views of it, so that Adam, the target's
Polyak step and the weight average are each one operation on one vector instead of one per layer.
Matrices are stored as [inputs, outputs]: `x @ weight + bias`, for NumPy and torch alike.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np
import torch

from headrace.learners.nets.mlp import Layers, forward


@dataclasses.dataclass(frozen=True)
class NetworkShape:
    """Sizes of a dueling multi-layer perceptron.

    Attributes:
        observation_width: D, number of inputs.
        hidden: widths of the hidden layers, first to last.
        actions: A, number of discrete actions.
        quantiles: Q, how many quantiles of the return stand for an action's value; 1 for its mean alone.
    """

    observation_width: int
    hidden: tuple[int, ...]
    actions: int
    quantiles: int = 1

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        if not self.hidden or min(self.observation_width, self.actions, self.quantiles, *self.hidden) < 1:
            raise ValueError(f"a network needs one hidden layer or more and positive sizes, got {self}")

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each linear layer by name, in the order of the flat vector."""
        widths = (self.observation_width, *self.hidden)
        hidden = {f"hidden_{i}": (widths[i], widths[i + 1]) for i in range(len(self.hidden))}
        heads = {"value": (widths[-1], self.quantiles), "advantage": (widths[-1], self.actions * self.quantiles)}
        return hidden | heads

    @functools.cached_property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter by name (`hidden_0.weight`, `hidden_0.bias`, ...)."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, (inputs, outputs) in self.layers.items():
            shapes |= {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}
        return shapes

    @functools.cached_property
    def size(self) -> int:
        """P, the length of the flat parameter vector."""
        return sum(math.prod(shape) for shape in self.parameters.values())


def initial_parameters(shape: NetworkShape, rng: np.random.Generator) -> torch.Tensor:
    """Draw float32[P]: He-normal weights for ReLU layers, heads a tenth of that, zero biases.

    Small heads make the first values nearly equal, so that early targets are rewards, not noise.
    Source: He et al. (2015), "Delving Deep into Rectifiers".
    """
    parts = []
    for name, (inputs, outputs) in shape.layers.items():
        scale = math.sqrt(2.0 / inputs) * (1.0 if name.startswith("hidden") else 0.1)
        parts += [scale * rng.standard_normal(inputs * outputs), np.zeros(outputs)]
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def split_parameters(flat: torch.Tensor, shape: NetworkShape) -> dict[str, torch.Tensor]:
    """The views of `flat` (float32[P]) by parameter name; no copy."""
    assert flat.shape == (shape.size,), (flat.shape, shape.size)
    shapes = shape.parameters
    parts = torch.split_with_sizes(flat, [math.prod(size) for size in shapes.values()])
    return {name: part.view(size) for (name, size), part in zip(shapes.items(), parts, strict=True)}


class DuelingNetwork:
    """A flat vector as layers: a ReLU torso, and both linear heads combined into one.

    q = v + a - mean(a) is linear in both heads, so they combine as weights: H rows to average instead of B.

    Source: Wang et al. (2016), "Dueling Network Architectures for Deep Reinforcement Learning", eq. 9.

    Args:
        flat: float32[P], parameters or their gradient; it is viewed, not copied.
        shape: the network's sizes.

    Attributes:
        flat: as given.
        layers: for `mlp.forward` and `mlp.backward`; the last one is a buffer, not a view.
    """

    def __init__(self, flat: torch.Tensor, shape: NetworkShape) -> None:
        self.flat = flat
        weights, hidden = split_parameters(flat, shape), len(shape.hidden)
        rows, columns = shape.hidden[-1] + 1, shape.actions * shape.quantiles
        # A head's weight and bias lie side by side: together they are one matrix, the bias its last row.
        heads = flat[-rows * (columns + shape.quantiles) :].numpy()
        self._value = heads[: rows * shape.quantiles].reshape(rows, shape.quantiles)
        self._advantage = heads[rows * shape.quantiles :].reshape(rows, columns)
        self._spread = np.tile(np.eye(shape.quantiles, dtype=np.float32), shape.actions)
        centred = np.eye(shape.actions, dtype=np.float32) - np.float32(1.0 / shape.actions)
        self._centred = np.kron(centred, np.eye(shape.quantiles, dtype=np.float32))
        self._head = np.empty((rows, columns), np.float32)
        head = torch.from_numpy(self._head)
        self.layers = [(weights[f"hidden_{i}.weight"], weights[f"hidden_{i}.bias"]) for i in range(hidden)]
        self.layers.append((head[:-1], head[-1]))

    def combined(self) -> Layers:
        """The layers, after the flat vector was written to."""
        np.dot(self._advantage, self._centred, out=self._head)
        self._head += np.dot(self._value, self._spread)
        return self.layers

    def distribute(self) -> torch.Tensor:
        """Of a gradient: the flat vector, after the layers were written to."""
        self._value[:] = np.dot(self._head, self._spread.T)
        self._advantage[:] = np.dot(self._head, self._centred)
        return self.flat

    def q_values(self, obs: torch.Tensor) -> torch.Tensor:
        """Values of all actions.

        Args:
            obs: float32[B, D], normalised.

        Returns:
            float32[B, A * Q], an action's Q quantiles side by side; with Q = 1, its value.
        """
        return forward(self.combined(), obs, "relu")[-1]


def arrays_from_parameters(flat: torch.Tensor, shape: NetworkShape) -> dict[str, np.ndarray]:
    """Copy the flat vector out into named float32 arrays."""
    weights = split_parameters(flat.detach(), shape)
    return {name: part.numpy().copy() for name, part in weights.items()}


def parameters_from_arrays(arrays: Mapping[str, np.ndarray], shape: NetworkShape) -> torch.Tensor:
    """Copy named arrays into one flat vector, float32[P]; other names are ignored.

    Raises:
        ValueError: a parameter is missing or has another shape.
    """
    for name, expected in shape.parameters.items():
        found = arrays[name].shape if name in arrays else "nothing"
        if found != expected:
            raise ValueError(f"parameter {name}: expected shape {expected}, found {found}; is it this network?")
    parts = [np.asarray(arrays[name], dtype=np.float32).ravel() for name in shape.parameters]
    return torch.from_numpy(np.concatenate(parts))
