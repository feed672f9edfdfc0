"""The dueling network: two heads over one torso, combined into one."""

import dataclasses
import math

import numpy as np
import torch

from headrace.learners.nets.mlp import Layers, NetworkShape, forward, split_layers


@dataclasses.dataclass(frozen=True)
class DuelingShape(NetworkShape):
    """Sizes of a dueling network for A discrete actions, each with Q quantiles of its return; 1 for its mean alone."""

    actions: int
    quantiles: int = 1

    @property
    def heads(self) -> dict[str, int]:
        """The state's value, and the actions' advantages."""
        return {"value": self.quantiles, "advantage": self.actions * self.quantiles}


def initial_dueling(shape: DuelingShape, rng: np.random.Generator) -> torch.Tensor:
    """Draw float32[P]: He-normal weights for ReLU layers, heads a tenth of that, zero biases.

    Small heads make the first values nearly equal, so that early targets are rewards, not noise.
    Source: He et al. (2015), "Delving Deep into Rectifiers".
    """
    parts = []
    for name, (inputs, outputs) in shape.layers.items():
        scale = math.sqrt(2.0 / inputs) * (0.1 if name in shape.heads else 1.0)
        parts += [scale * rng.standard_normal(inputs * outputs), np.zeros(outputs)]
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def heads_of(flat: torch.Tensor, shape: DuelingShape) -> torch.Tensor:
    """The part of float32[P] that both heads are, as a view: all values are linear in it."""
    return flat[-(shape.hidden[-1] + 1) * (shape.actions + 1) * shape.quantiles :]


class DuelingNetwork:
    """A flat vector float32[P], parameters or their gradient, viewed as layers: a ReLU torso and one linear head.

    q = v + a - mean(a) is linear in both heads, so they combine as weights: H rows to average instead of B. `layers`
    are for `mlp.forward` and `mlp.backward`; the last one is a buffer, not a view.

    Source: Wang et al. (2016), "Dueling Network Architectures for Deep Reinforcement Learning", eq. 9.
    """

    def __init__(self, flat: torch.Tensor, shape: DuelingShape) -> None:
        self.flat = flat
        rows, columns = shape.hidden[-1] + 1, shape.actions * shape.quantiles
        # A head's weight and bias lie side by side: together they are one matrix, the bias its last row.
        heads = heads_of(flat, shape).numpy()
        self._value = heads[: rows * shape.quantiles].reshape(rows, shape.quantiles)
        self._advantage = heads[rows * shape.quantiles :].reshape(rows, columns)
        self._spread = np.tile(np.eye(shape.quantiles, dtype=np.float32), shape.actions)
        centred = np.eye(shape.actions, dtype=np.float32) - np.float32(1.0 / shape.actions)
        self._centred = np.kron(centred, np.eye(shape.quantiles, dtype=np.float32))
        self._head = np.empty((rows, columns), np.float32)
        head = torch.from_numpy(self._head)
        self.layers = [*split_layers(flat, shape)[: len(shape.hidden)], (head[:-1], head[-1])]

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
        """Values of normalised float32[B, D]: float32[B, A * Q], an action's Q quantiles side by side."""
        return forward(self.combined(), obs, "relu")[-1]
