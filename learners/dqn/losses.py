"""Value-learning losses and their derivatives, written out. NumPy only, in the manner of google-deepmind/rlax.

Times are in the names: `q_tm1` are the values at t-1, where `a_tm1` was taken; `r_t`, `discount_t`
and `q_t_*` belong to the state that followed. `discount_t` is gamma, or 0 where t-1 was terminal.
"""

import numpy as np


def double_q_learning(
    q_tm1: np.ndarray,
    a_tm1: np.ndarray,
    r_t: np.ndarray,
    discount_t: np.ndarray,
    q_t_value: np.ndarray,
    q_t_selector: np.ndarray,
) -> np.ndarray:
    """Double Q-learning's temporal-difference error; its derivative is -1 with respect to the value of `a_tm1`.

    The selector (online network) chooses the next action and the value (target network) prices it,
    which removes most of the maximum's upward bias.

    Source: van Hasselt, Guez, Silver (2016), "Deep Reinforcement Learning with Double Q-learning".

    Args:
        q_tm1: float32[B, A], values before the step.
        a_tm1: int64[B], actions taken.
        r_t: float32[B], rewards received.
        discount_t: float32[B], discount of what follows; 0 after a terminal step.
        q_t_value: float32[B, A], values after the step that are bootstrapped from.
        q_t_selector: float32[B, A], values after the step that choose the action.

    Returns:
        float32[B], target minus `q_tm1` at `a_tm1`.
    """
    rows, actions = q_tm1.shape
    assert a_tm1.shape == r_t.shape == discount_t.shape == (rows,), (a_tm1.shape, r_t.shape, discount_t.shape)
    assert q_t_value.shape == q_t_selector.shape == (rows, actions), (q_t_value.shape, q_t_selector.shape)
    first = np.arange(0, rows * actions, actions)
    v_t = q_t_value.reshape(-1).take(first + q_t_selector.argmax(axis=1))
    error: np.ndarray = r_t + discount_t * v_t - q_tm1.reshape(-1).take(first + a_tm1)
    return error


def squared_error(td_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half the square of the error, and its derivative: the error itself.

    Where rewards are noisy, Huber's loss pulls values from the mean towards the median and so
    underrates rare, costly events (a flash crowd); the square keeps the mean.

    Source: rlax `l2_loss`.

    Args:
        td_error: float32[B].

    Returns:
        float32[B], float32[B].
    """
    assert td_error.ndim == 1, td_error.shape
    return np.float32(0.5) * td_error * td_error, td_error


def huber_error(td_error: np.ndarray, limit: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Half the square of the error up to `limit`, linear beyond; and its derivative.

    Source: Huber (1964), "Robust Estimation of a Location Parameter".

    Args:
        td_error: float32[B], or of any shape.
        limit: where the square ends.

    Returns:
        float32[B], float32[B].
    """
    slope = np.minimum(np.maximum(td_error, -limit), limit)
    return slope * (td_error - np.float32(0.5) * slope), slope


def quantile_huber(
    quantiles_tm1: np.ndarray, target_tm1: np.ndarray, limit: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Huber's loss of each predicted quantile against each target quantile, weighted by which side it errs on.

    Source: Dabney et al. (2018), "Distributional Reinforcement Learning with Quantile Regression", eq. 10.

    Args:
        quantiles_tm1: float32[B, Q], of the actions taken, at the levels (i + .5) / Q.
        target_tm1: float32[B, Q], quantiles of the target.
        limit: as in `huber_error`.

    Returns:
        float32[B], the sum over predicted quantiles of the mean over target quantiles; and its gradient with respect
        to the predicted quantiles, float32[B, Q].
    """
    assert quantiles_tm1.shape == target_tm1.shape, (quantiles_tm1.shape, target_tm1.shape)
    count = quantiles_tm1.shape[1]
    levels = (np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)
    error = target_tm1[:, None, :] - quantiles_tm1[:, :, None]
    weight = np.abs(levels[None, :, None] - (error < 0.0)).astype(np.float32) / np.float32(limit)
    loss, slope = huber_error(error, limit)
    return (weight * loss).mean(axis=2).sum(axis=1), -(weight * slope).mean(axis=2)
