"""Value-learning losses and their derivatives, written out. NumPy only, in the manner of google-deepmind/rlax.

Times are in the names: `q_tm1` are the values at t-1, where `a_tm1` was taken; `r_t`, `discount_t`
and `q_t_*` belong to the state that followed. `discount_t` is gamma, or 0 where t-1 was terminal.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def double_q_learning(
    q_tm1: Floats, a_tm1: NDArray[np.int64], r_t: Floats, discount_t: Floats, q_t_value: Floats, q_t_selector: Floats
) -> Floats:
    """Double Q-learning's temporal-difference error, float32[B]: the target minus `q_tm1` at `a_tm1`.

    q_tm1, q_t_value, q_t_selector: float32[B, A]. a_tm1, r_t, discount_t: [B]. The selector (online network) chooses
    the next action and the value (target network) prices it, which removes most of the maximum's upward bias. The
    error's derivative with respect to the value of `a_tm1` is -1.

    Source: van Hasselt, Guez, Silver (2016), "Deep Reinforcement Learning with Double Q-learning".
    """
    rows, actions = q_tm1.shape
    assert a_tm1.shape == r_t.shape == discount_t.shape == (rows,), (a_tm1.shape, r_t.shape, discount_t.shape)
    assert q_t_value.shape == q_t_selector.shape == (rows, actions), (q_t_value.shape, q_t_selector.shape)
    first = np.arange(0, rows * actions, actions)
    v_t = q_t_value.reshape(-1).take(first + q_t_selector.argmax(axis=1))
    error: Floats = r_t + discount_t * v_t - q_tm1.reshape(-1).take(first + a_tm1)
    return error


def squared_error(td_error: Floats) -> tuple[Floats, Floats]:
    """Half the square of the error float32[B], and its derivative: the error itself.

    Where rewards are noisy, Huber's loss pulls values from the mean towards the median and so
    underrates rare, costly events (a flash crowd); the square keeps the mean.

    Source: rlax `l2_loss`.
    """
    assert td_error.ndim == 1, td_error.shape
    return np.float32(0.5) * td_error * td_error, td_error


def huber_error(td_error: Floats, limit: float = 1.0) -> tuple[Floats, Floats]:
    """Half the square of the error, of any shape, up to `limit`, linear beyond; and its derivative.

    Source: Huber (1964), "Robust Estimation of a Location Parameter".
    """
    slope = np.minimum(np.maximum(td_error, -limit), limit)
    return slope * (td_error - np.float32(0.5) * slope), slope


def quantile_huber(quantiles_tm1: Floats, target_tm1: Floats, limit: float = 1.0) -> tuple[Floats, Floats]:
    """Huber's loss of each predicted quantile against each target quantile, weighted by which side it errs on.

    quantiles_tm1: float32[B, Q], of the actions taken, at the levels (i + .5) / Q. target_tm1: float32[B, Q]. Returns
    the sum over predicted quantiles of the mean over target quantiles, float32[B], and its gradient with respect to the
    predicted quantiles, float32[B, Q].

    Source: Dabney et al. (2018), "Distributional Reinforcement Learning with Quantile Regression", eq. 10.
    """
    assert quantiles_tm1.shape == target_tm1.shape, (quantiles_tm1.shape, target_tm1.shape)
    count = quantiles_tm1.shape[1]
    levels = (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)
    error = target_tm1[:, None, :] - quantiles_tm1[:, :, None]
    weight = np.abs(levels[None, :, None] - (error < 0.0)).astype(np.float32) / np.float32(limit)
    loss, slope = huber_error(error, limit)
    return (weight * loss).mean(axis=2).sum(axis=1), -(weight * slope).mean(axis=2)
