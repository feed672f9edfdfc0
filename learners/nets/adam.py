"""Adam on one flat vector."""

import math

import torch

from headrace.schemas.errors import LearnerDivergedError


def adam_step(
    parameters: torch.Tensor,
    first_moment: torch.Tensor,
    second_moment: torch.Tensor,
    gradient: torch.Tensor,
    *,
    step: int,
    rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> None:
    """Move the parameters, the mean and the mean squared gradient on in place: float32[P] each; steps count from 1.

    Source: Kingma, Ba (2015), "Adam: A Method for Stochastic Optimization", algorithm 1.
    """
    first_moment.lerp_(gradient, 1.0 - beta1)
    second_moment.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
    # Both corrections of the start are numbers: they go into the rate and epsilon, not through the vectors.
    correction = math.sqrt(1.0 - beta2**step)
    root = second_moment.sqrt().add_(epsilon * correction)
    parameters.addcdiv_(first_moment, root, value=-rate * correction / (1.0 - beta1**step))


def clip_by_norm(gradient: torch.Tensor, norm: float, norm_max: float) -> torch.Tensor:
    """The gradient, scaled to the norm `norm_max` where its own is greater."""
    return gradient * (norm_max / norm) if norm > norm_max else gradient


def l2_norm(gradient: torch.Tensor) -> float:
    """The Euclidean norm of float32[P]."""
    vector = gradient.numpy()
    return math.sqrt(vector.dot(vector))


def require_finite(what: str, loss: float, limit: float, norm: float) -> None:
    """Raise LearnerDivergedError if a loss or its gradient's norm is not finite, or the loss is beyond its limit."""
    if math.isfinite(loss) and math.isfinite(norm) and abs(loss) <= limit:
        return
    raise LearnerDivergedError(
        f"{what} diverged: loss {loss:g} (limit {limit:g}), gradient norm {norm:g}; look for bad observations or "
        "rewards in the batch, or lower learning_rate"
    )
