"""Multi-layer perceptrons as pure functions of one flat parameter vector, their gradient written out.

All parameters lie in one float32 vector and the layers are views of it, so that Adam, the target's Polyak step and the
weight average are each one operation on one vector instead of one per layer. Matrices are [inputs, outputs]:
`x @ weight + bias`, for NumPy and torch alike.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

Activation = Literal["tanh", "relu"]
ACTIVATIONS: tuple[Activation, ...] = ("tanh", "relu")
Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Weight and bias of each layer, first to last."""
_NARROW = 16
"""Columns below which BLAS multiplies matrices of many rows badly."""


@dataclasses.dataclass(frozen=True)
class NetworkShape:
    """Sizes of a network: its inputs, its hidden layers `hidden_<i>`, and the linear heads that a subclass names."""

    inputs: int
    hidden: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        if not self.hidden or min(self.inputs, *self.hidden, *self.heads.values()) < 1:
            raise ValueError(f"a network needs one hidden layer or more and positive sizes, got {self}")

    @property
    def heads(self) -> dict[str, int]:
        """Outputs of each head by name."""
        raise NotImplementedError

    @functools.cached_property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each linear layer by name, in the order of the flat vector."""
        widths = (self.inputs, *self.hidden)
        hidden = {f"hidden_{i}": (widths[i], widths[i + 1]) for i in range(len(self.hidden))}
        return hidden | {name: (widths[-1], outputs) for name, outputs in self.heads.items()}

    @functools.cached_property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter by name (`hidden_0.weight`, `hidden_0.bias`, ...), in the vector's order."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, (inputs, outputs) in self.layers.items():
            shapes |= {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}
        return shapes

    @functools.cached_property
    def size(self) -> int:
        """P, the length of the flat parameter vector."""
        return sum(math.prod(shape) for shape in self.parameters.values())


@dataclasses.dataclass(frozen=True)
class MLPShape(NetworkShape):
    """Sizes of a perceptron with one linear head, whose name is `output`."""

    outputs: int
    output: str
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        """Refuse sizes and activations that make no network."""
        super().__post_init__()
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")

    @property
    def heads(self) -> dict[str, int]:
        """The one."""
        return {self.output: self.outputs}


def initial_mlp(shape: MLPShape, rng: np.random.Generator, output_gain: float) -> torch.Tensor:
    """Draw float32[P]: orthogonal weights, hidden ones with gain sqrt(2), zero biases.

    Source: Saxe et al. (2014), "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks"; gains as in Andrychowicz et al. (2021), "What matters for on-policy deep
    actor-critic methods?".
    """
    parts = []
    for name, (inputs, outputs) in shape.layers.items():
        gain = output_gain if name == shape.output else math.sqrt(2.0)
        parts += [gain * _orthogonal(inputs, outputs, rng).ravel(), np.zeros(outputs)]
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def _orthogonal(rows: int, columns: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """float64[rows, columns] with orthonormal rows or columns, whichever are fewer."""
    square, triangle = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    square = square * np.sign(np.diag(triangle))
    return square if rows >= columns else square.T


def split_parameters(flat: torch.Tensor, shape: NetworkShape) -> dict[str, torch.Tensor]:
    """The views of `flat` (float32[P]) by parameter name; no copy."""
    assert flat.shape == (shape.size,), (flat.shape, shape.size)
    shapes = shape.parameters
    parts = torch.split_with_sizes(flat, [math.prod(size) for size in shapes.values()])
    return {name: part.view(size) for (name, size), part in zip(shapes.items(), parts, strict=True)}


def split_layers(flat: torch.Tensor, shape: NetworkShape) -> Layers:
    """The same views layer by layer, heads last."""
    views = list(split_parameters(flat, shape).values())
    return list(zip(views[::2], views[1::2], strict=True))


def arrays_from_parameters(flat: torch.Tensor, shape: NetworkShape) -> dict[str, NDArray[np.float32]]:
    """Copy the flat vector out into named arrays."""
    return {name: part.numpy().copy() for name, part in split_parameters(flat.detach(), shape).items()}


def parameters_from_arrays(arrays: Mapping[str, NDArray[Any]], shape: NetworkShape) -> torch.Tensor:
    """Copy named arrays into one flat vector, float32[P]; other names are ignored.

    Raises ValueError where a parameter is missing or has another shape.
    """
    for name, expected in shape.parameters.items():
        found = arrays[name].shape if name in arrays else "nothing"
        if found != expected:
            raise ValueError(f"parameter {name}: expected shape {expected}, found {found}; is it this network?")
    parts = [np.asarray(arrays[name], dtype=np.float32).ravel() for name in shape.parameters]
    return torch.from_numpy(np.concatenate(parts))


def forward(layers: Layers, inputs: torch.Tensor, activation: Activation) -> list[torch.Tensor]:
    """What each layer is given, and the last one's outputs: float32[B, width] each."""
    given = [inputs]
    for weight, bias in layers[:-1]:
        linear = torch.addmm(bias, given[-1], weight)
        given.append(linear.tanh_() if activation == "tanh" else linear.relu_())
    weight, bias = layers[-1]
    given.append(torch.addmm(bias, given[-1], weight))
    return given


def backward(
    layers: Layers, given: Sequence[torch.Tensor], gradient: torch.Tensor, activation: Activation, into: Layers
) -> None:
    """Back-propagation through `forward`, which returned `given`; at these sizes autograd takes twice the time.

    gradient: float32[B, outputs], the loss's with respect to the outputs. into: like `layers`, overwritten by the
    loss's gradient with respect to them.
    """
    for i in reversed(range(len(layers))):
        weight, bias = into[i]
        _product_of_rows(given[i], gradient, weight)
        torch.sum(gradient, dim=0, out=bias)
        if i:
            gradient = gradient @ layers[i][0].t()
            if activation == "tanh":
                gradient = torch.ops.aten.tanh_backward(gradient, given[i])
            else:
                torch.ops.aten.threshold_backward.grad_input(gradient, given[i], 0.0, grad_input=gradient)


def _product_of_rows(given: torch.Tensor, gradient: torch.Tensor, into: torch.Tensor) -> None:
    """given.T @ gradient; where that is narrow, by its transpose, in a quarter of the time."""
    if gradient.shape[1] < _NARROW:
        into.copy_((gradient.t() @ given).t())
    else:
        torch.mm(given.t(), gradient, out=into)
