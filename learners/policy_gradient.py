"""Policy-gradient pieces: pure functions of arrays and tensors, in the manner of google-deepmind/rlax.

Times are in the names, as in `losses`: `r_t` and `discount_t` follow the action taken at t-1, whose
state has the value `v_tm1` and is followed by one of value `v_t`.
"""

import numpy as np
import torch

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


def generalised_advantages(
    r_t: np.ndarray,
    discount_t: np.ndarray,
    continues_t: np.ndarray,
    v_tm1: np.ndarray,
    v_t: np.ndarray,
    trace: np.ndarray,
) -> np.ndarray:
    """Generalised advantage estimates of T steps of N trajectories.

    `v_t` is the value of the state that truly followed, so a cut-off episode (truncation, or the end
    of the rollout) is bootstrapped from its own last state, not from the next episode's first.

    Source: Schulman et al. (2016), "High-Dimensional Continuous Control Using Generalized Advantage
    Estimation", eq. 16. With `trace` below lambda where data is off-policy: Munos et al. (2016),
    "Safe and efficient off-policy reinforcement learning".

    Args:
        r_t: float[T, N], rewards received.
        discount_t: float[T, N], gamma, or 0 where the step was terminal.
        continues_t: bool[T, N], whether the next row is the same trajectory's next step.
        v_tm1: float[T, N], values before the steps.
        v_t: float[T, N], values after the steps.
        trace: float[T, N], lambda.

    Returns:
        float[T, N].
    """
    assert r_t.shape == discount_t.shape == continues_t.shape == v_tm1.shape == v_t.shape == trace.shape
    td_error: np.ndarray = r_t + discount_t * v_t - v_tm1
    decay = discount_t * continues_t
    advantages: np.ndarray = np.empty_like(td_error)
    following: np.ndarray = np.zeros_like(td_error[0])
    for step in reversed(range(len(td_error))):
        advantages[step] = td_error[step] + decay[step] * following
        following = trace[step] * advantages[step]  # a step's own trace says how far those before it believe it
    return advantages


def clipped_surrogate(ratio: torch.Tensor, advantage: torch.Tensor, epsilon: float) -> torch.Tensor:
    """PPO's clipped objective, negated; gradients flow through `ratio`.

    Source: Schulman et al. (2017), "Proximal Policy Optimization Algorithms", eq. 7.

    Args:
        ratio: float32[B], probability of the action now over its probability at the update's start.
        advantage: float32[B].
        epsilon: half width of the range within which a ratio's change pays.

    Returns:
        float32[B].
    """
    assert ratio.shape == advantage.shape, (ratio.shape, advantage.shape)
    return -torch.minimum(ratio * advantage, ratio.clamp(1.0 - epsilon, 1.0 + epsilon) * advantage)


def categorical(logits: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of the actions taken and entropy of a softmax policy.

    Args:
        logits: float32[B, A].
        action: int64[B].

    Returns:
        float32[B], float32[B] in nats.
    """
    log_probs = logits.log_softmax(dim=1)
    taken = log_probs.gather(1, action.unsqueeze(1)).squeeze(1)
    return taken, -(log_probs.exp() * log_probs).sum(dim=1)


def diagonal_gaussian(
    mean: torch.Tensor, log_std: torch.Tensor, action: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-density of the actions taken and entropy of independent normals.

    Args:
        mean: float32[B, A].
        log_std: float32[A].
        action: float32[B, A], as drawn (before the environment's bounds cut it off).

    Returns:
        float32[B], float32[B] in nats.
    """
    log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
    standardised = (action - mean) * (-log_std).exp()
    log_density = -0.5 * standardised.square() - log_std - 0.5 * np.log(2.0 * np.pi)
    entropy = (log_std + 0.5 * np.log(2.0 * np.pi * np.e)).sum().expand(len(mean))
    return log_density.sum(dim=1), entropy
