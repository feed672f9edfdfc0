"""Value-learning losses: pure functions of tensors, in the manner of google-deepmind/rlax.

Times are in the names: `q_tm1` are the values at t-1, where `a_tm1` was taken; `r_t`, `discount_t`
and `q_t_*` belong to the state that followed. `discount_t` is gamma, or 0 where t-1 was terminal.
"""

import torch


def double_q_learning(
    q_tm1: torch.Tensor,
    a_tm1: torch.Tensor,
    r_t: torch.Tensor,
    discount_t: torch.Tensor,
    q_t_value: torch.Tensor,
    q_t_selector: torch.Tensor,
) -> torch.Tensor:
    """Double Q-learning's temporal-difference error; gradients flow through `q_tm1` alone.

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
    with torch.no_grad():
        a_t = q_t_selector.argmax(dim=1, keepdim=True)
        target_tm1 = r_t + discount_t * q_t_value.gather(1, a_t).squeeze(1)
    return target_tm1 - q_tm1.gather(1, a_tm1.unsqueeze(1)).squeeze(1)


def squared_error(td_error: torch.Tensor) -> torch.Tensor:
    """Half the square of the error, so that its gradient is the error itself.

    Where rewards are noisy, Huber's loss pulls values from the mean towards the median and so
    underrates rare, costly events (a flash crowd); the square keeps the mean.

    Source: rlax `l2_loss`.

    Args:
        td_error: float32[B].

    Returns:
        float32[B].
    """
    assert td_error.ndim == 1, td_error.shape
    return 0.5 * td_error.square()


def huber_error(td_error: torch.Tensor, limit: float = 1.0) -> torch.Tensor:
    """Half the square of the error up to `limit`, linear beyond.

    Source: Huber (1964), "Robust Estimation of a Location Parameter".

    Args:
        td_error: float32[B].
        limit: where the square ends.

    Returns:
        float32[B].
    """
    size = td_error.abs()
    return torch.where(size <= limit, 0.5 * td_error.square(), limit * (size - 0.5 * limit))


def quantile_huber(quantiles_tm1: torch.Tensor, target_tm1: torch.Tensor, limit: float = 1.0) -> torch.Tensor:
    """Huber's loss of each predicted quantile against each target quantile, weighted by which side it errs on.

    Source: Dabney et al. (2018), "Distributional Reinforcement Learning with Quantile Regression", eq. 10.

    Args:
        quantiles_tm1: float32[B, Q], of the actions taken, at the levels (i + .5) / Q.
        target_tm1: float32[B, Q], quantiles of the target; no gradient flows through them.
        limit: as in `huber_error`.

    Returns:
        float32[B], the sum over predicted quantiles of the mean over target quantiles.
    """
    assert quantiles_tm1.shape == target_tm1.shape, (quantiles_tm1.shape, target_tm1.shape)
    count = quantiles_tm1.shape[1]
    levels = (torch.arange(count, dtype=torch.float32) + 0.5) / count
    error = target_tm1.detach().unsqueeze(1) - quantiles_tm1.unsqueeze(2)
    below = (error.detach() < 0.0).float()
    loss = (levels.view(1, count, 1) - below).abs() * huber_error(error, limit) / limit
    return loss.mean(dim=2).sum(dim=1)
