"""A multi-layer perceptron as pure functions of one flat parameter vector, its gradient written out.

As in `networks` (the dueling network), all parameters lie in one float32 vector and layers are views of
it; matrices are [inputs, outputs].
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

Activation = Literal["tanh", "relu"]
ACTIVATIONS: tuple[Activation, ...] = ("tanh", "relu")
Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Weight and bias of each layer, first to last."""
_NARROW = 16
"""Columns below which BLAS multiplies matrices of many rows badly."""


@dataclasses.dataclass(frozen=True)
class MLPShape:
    """Sizes of a perceptron with linear outputs.

    Attributes:
        inputs: number of inputs.
        hidden: widths of the hidden layers, first to last.
        outputs: number of outputs.
        output: name of the last layer; the others are `hidden_<i>`.
        activation: of the hidden layers.
    """

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    output: str
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        if not self.hidden or min(self.inputs, self.outputs, *self.hidden) < 1:
            raise ValueError(f"a network needs one hidden layer or more and positive sizes, got {self}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")

    @functools.cached_property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter by name, in the order of the flat vector."""
        widths = (self.inputs, *self.hidden, self.outputs)
        names = [f"hidden_{i}" for i in range(len(self.hidden))] + [self.output]
        shapes: dict[str, tuple[int, ...]] = {}
        for i, name in enumerate(names):
            shapes |= {f"{name}.weight": (widths[i], widths[i + 1]), f"{name}.bias": (widths[i + 1],)}
        return shapes

    @functools.cached_property
    def size(self) -> int:
        """P, the length of the flat parameter vector."""
        return sum(math.prod(shape) for shape in self.parameters.values())


def initial_mlp(shape: MLPShape, rng: np.random.Generator, output_gain: float) -> torch.Tensor:
    """Draw float32[P]: orthogonal weights, hidden ones with gain sqrt(2), zero biases.

    Source: Saxe et al. (2014), "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks"; gains as in Andrychowicz et al. (2021), "What matters for on-policy deep
    actor-critic methods?".
    """
    parts = []
    for name, size in shape.parameters.items():
        if name.endswith(".bias"):
            parts.append(np.zeros(size))
            continue
        gain = output_gain if name.startswith(shape.output) else math.sqrt(2.0)
        parts.append(gain * _orthogonal(size[0], size[1], rng).ravel())
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def _orthogonal(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """float64[rows, columns] with orthonormal rows or columns, whichever are fewer."""
    square, triangle = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    square = square * np.sign(np.diag(triangle))
    return square if rows >= columns else square.T


def split_mlp(flat: torch.Tensor, shape: MLPShape) -> Layers:
    """Views of `flat` (float32[P]): each layer's weight and bias, first to last."""
    assert flat.shape == (shape.size,), (flat.shape, shape.size)
    sizes = list(shape.parameters.values())
    parts = torch.split_with_sizes(flat, [math.prod(size) for size in sizes])
    views = [part.view(size) for part, size in zip(parts, sizes, strict=True)]
    return list(zip(views[::2], views[1::2], strict=True))


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
    """Back-propagation through `forward`, written out: at these sizes autograd takes twice the time.

    Args:
        layers: as given to `forward`.
        given: what `forward` returned.
        gradient: float32[B, outputs], the loss's gradient with respect to the outputs.
        activation: as given to `forward`.
        into: like `layers`; overwritten by the loss's gradient with respect to them.
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


def arrays_from_mlp(flat: torch.Tensor, shape: MLPShape) -> dict[str, np.ndarray]:
    """Copy the flat vector out into named float32 arrays."""
    views = [view for layer in split_mlp(flat.detach(), shape) for view in layer]
    return {name: view.numpy().copy() for name, view in zip(shape.parameters, views, strict=True)}
