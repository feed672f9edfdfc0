"""The dueling network as pure functions of one flat parameter vector.

All parameters lie in one float32 vector and the layers are views of it, so that Adam, the target's
Polyak step and the weight average are each one operation on one vector instead of one per layer.
Matrices are stored as [inputs, outputs]: `x @ weight + bias`, for NumPy and torch alike.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch


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


def q_values(weights: Mapping[str, torch.Tensor], obs: torch.Tensor) -> torch.Tensor:
    """Values of all actions: q = v + a - mean(a), over a shared ReLU torso with linear heads.

    Source: Wang et al. (2016), "Dueling Network Architectures for Deep Reinforcement Learning", eq. 9.

    Args:
        weights: parameters by name, as from `split_parameters`.
        obs: float32[B, D], normalised.

    Returns:
        float32[B, A * Q], an action's Q quantiles side by side; with Q = 1, its value.
    """
    return q_head(weights, activations(weights, obs)[-1])


def activations(weights: Mapping[str, torch.Tensor], obs: torch.Tensor) -> list[torch.Tensor]:
    """What each layer is given: obs, then each hidden layer's ReLU output, float32[B, width]."""
    given = [obs]
    for layer in range(len(weights) // 2 - 2):
        linear = torch.addmm(weights[f"hidden_{layer}.bias"], given[-1], weights[f"hidden_{layer}.weight"])
        given.append(linear.relu_())
    return given


def q_head(weights: Mapping[str, torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    """Values float32[B, A * Q] from the last hidden layer's output, float32[B, H]."""
    # Both heads are linear, so they combine as weights: H rows to average instead of B.
    return torch.addmm(_dueling(weights, "bias").squeeze(0), features, _dueling(weights, "weight"))


def _dueling(weights: Mapping[str, torch.Tensor], part: str) -> torch.Tensor:
    """Both heads' weights (or biases) as one layer's: [H, A * Q] (or [1, A * Q])."""
    value, advantage = (weights[f"{head}.{part}"] for head in ("value", "advantage"))
    value, advantage = value.reshape(-1, value.shape[-1]), advantage.reshape(-1, advantage.shape[-1])
    advantage = advantage.view(len(value), -1, value.shape[1])
    combined: torch.Tensor = value.unsqueeze(1) + advantage - advantage.mean(dim=1, keepdim=True)
    return combined.view(len(value), -1)


def parameter_gradient(
    weights: Mapping[str, torch.Tensor], given: Sequence[torch.Tensor], q_gradient: torch.Tensor
) -> torch.Tensor:
    """Back-propagation through `q_values`, written out: at these sizes autograd takes twice the time.

    Args:
        weights: parameters by name.
        given: what `activations` returned.
        q_gradient: float32[B, A * Q], the loss's gradient with respect to the values.

    Returns:
        float32[P], the loss's gradient with respect to the flat parameters.
    """
    quantiles = len(weights["value.bias"])
    weight = (given[-1].t() @ q_gradient).view(given[-1].shape[1], -1, quantiles)
    bias = q_gradient.sum(dim=0).view(-1, quantiles)
    value_weight, value_bias = weight.sum(dim=1), bias.sum(dim=0)
    actions = len(bias)
    parts = [
        value_weight,
        value_bias,
        weight - value_weight.unsqueeze(1) / actions,
        bias - value_bias / actions,
    ]
    gradient = q_gradient @ _dueling(weights, "weight").t()
    for layer in reversed(range(len(given) - 1)):
        gradient.mul_(given[layer + 1].sign())  # ReLU's derivative: 1 where its output is positive, else 0
        parts = [given[layer].t() @ gradient, gradient.sum(dim=0), *parts]
        if layer:
            gradient = gradient @ weights[f"hidden_{layer}.weight"].t()
    return torch.cat([part.reshape(-1) for part in parts])


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
