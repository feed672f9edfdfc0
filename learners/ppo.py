"""Proximal policy optimisation over rollouts, fresh from an environment or aged from a stream.

`init` makes a state, `update` takes it one rollout further: advantages, then epochs of minibatches,
until they are through or the policy has moved far enough. Nothing here draws from global random state;
on one torch thread equal seeds and equal rollouts give equal bits.

Sources: Schulman et al. (2017), "Proximal Policy Optimization Algorithms"; Hilton et al. (2022),
"Batch size-invariance for policy optimization" (data older than the policy); van Hasselt et al. (2016),
"Learning values across many orders of magnitude" (scaled values).
"""

import dataclasses
import math

import torch

from headrace.learners.adam import adam_step, shortened
from headrace.learners.mlp import backward, forward, split_mlp
from headrace.learners.policy_gradient import clipped_surrogate
from headrace.learners.ppo_checkpoint import state_from_arrays, state_to_arrays
from headrace.learners.ppo_rows import Rows, prepared, require_finite, with_inputs
from headrace.learners.ppo_state import (
    Net,
    PPOConfig,
    PPOState,
    Rollout,
    behaviour_arrays,
    distribution,
    init,
    policy_arrays,
    policy_layers,
    progress_of,
)
from headrace.schemas.errors import LearnerDivergedError

__all__ = [
    "PPOConfig",
    "PPOState",
    "Rollout",
    "behaviour_arrays",
    "init",
    "policy_arrays",
    "progress_of",
    "state_from_arrays",
    "state_to_arrays",
    "update",
]


def update(state: PPOState, rollout: Rollout) -> tuple[PPOState, dict[str, float]]:
    """Learn from one rollout. The given state stays good, whatever happens.

    Args:
        state: from `init`, `update` or `state_from_arrays`.
        rollout: T steps of N trajectories.

    Returns:
        The next state, and metrics: `policy_loss`, `value_loss` (in the critic's unit), `entropy`, `kl`
        (nats, of the last minibatch), `clipped_share`, `epochs` (begun), `dropped_share` (rows that were
        too old), `importance` (mean weight of aged rows), `explained` (share of the targets' variance
        that the critic had foreseen).

    Raises:
        LearnerDivergedError: a value, a loss or a gradient is not finite, or a loss is beyond its limit.
    """
    require_finite(rollout, state)
    state = with_inputs(state, rollout)
    state, rows, metrics = prepared(state, rollout)
    if not len(rows.advantage):
        return dataclasses.replace(state, version=state.version + 1), metrics
    policy, critic, learned = _epochs(state, rows)
    averaged = state.averaged.lerp(policy.parameters, max(state.config.averaging, 1.0 / (state.version + 1)))
    following = dataclasses.replace(
        state,
        policy=policy,
        critic=critic,
        averaged=averaged,
        rows=state.rows + rollout.reward.size,
        version=state.version + 1,
    )
    return following, metrics | learned


def _epochs(state: PPOState, rows: Rows) -> tuple[Net, Net, dict[str, float]]:
    """Epochs of minibatches on copies of both networks."""
    config = state.config
    policy, critic = state.policy.clone(), state.critic.clone()
    remaining = 1.0 - progress_of(state)
    metrics: dict[str, float] = {"epochs": 0.0}
    moving = True
    for epoch in range(config.epochs):
        order = torch.from_numpy(state.rng.permutation(len(rows.advantage)))
        for index in torch.split(order, config.minibatch_size):
            batch = rows.take(index)
            critic, value_loss = _critic_step(config, critic, batch, config.critic_learning_rate * remaining)
            metrics["value_loss"] = value_loss
            if moving:
                policy, found = _policy_step(config, policy, batch, remaining)
                moving = not config.kl_stop or found["kl"] <= config.kl_stop
                metrics |= found
        metrics["epochs"] = epoch + 1.0
    return policy, critic, metrics


def _critic_step(config: PPOConfig, net: Net, batch: Rows, rate: float) -> tuple[Net, float]:
    layers = split_mlp(net.parameters, net.shape)
    given = forward(layers, batch.critic_inputs, net.shape.activation)
    error = given[-1] - batch.target.unsqueeze(1)
    loss = 0.5 * float(error.square().mean())
    gradient = backward(layers, given, error / len(error), net.shape.activation)
    return _stepped(config, net, gradient, rate, loss, "value"), loss


def _policy_step(config: PPOConfig, net: Net, batch: Rows, remaining: float) -> tuple[Net, dict[str, float]]:
    layers, log_std = policy_layers(net)
    given = forward(layers, batch.inputs, net.shape.activation)
    outputs = given[-1].requires_grad_()
    leaves = [outputs] if log_std is None else [outputs, log_std.detach().requires_grad_()]
    log_prob, entropy = distribution(outputs, batch.prior, leaves[1] if len(leaves) > 1 else None, batch.action)
    log_ratio = log_prob - batch.log_prob
    ratio = log_ratio.exp()
    surrogate = clipped_surrogate(ratio, batch.advantage, config.clip)
    if batch.weight is not None:
        surrogate = surrogate * batch.weight
    loss = surrogate.mean() - config.entropy * remaining * entropy.mean()
    gradients = torch.autograd.grad(loss, leaves)
    gradient = backward(layers, given, gradients[0], net.shape.activation)
    if len(gradients) > 1:
        gradient = torch.cat([gradient, gradients[1]])
    with torch.no_grad():
        metrics = {
            "policy_loss": float(loss),
            "entropy": float(entropy.mean()),
            # Schulman's low-variance estimate of KL(old, new): http://joschu.net/blog/kl-approx.html
            "kl": float((ratio - 1.0 - log_ratio).mean()),
            "clipped_share": float(((ratio - 1.0).abs() > config.clip).float().mean()),
        }
    return _stepped(config, net, gradient, config.learning_rate * remaining, metrics["policy_loss"], "policy"), metrics


def _stepped(config: PPOConfig, net: Net, gradient: torch.Tensor, rate: float, loss: float, name: str) -> Net:
    """The net after a step of Adam, in place."""
    norm = float(gradient.norm())
    if not (math.isfinite(norm) and abs(loss) <= config.loss_limit):
        raise LearnerDivergedError(
            f"{name} diverged at step {net.steps + 1}: loss {loss:g} (limit {config.loss_limit:g}), gradient norm "
            f"{norm:g}; look for bad observations or rewards, or lower learning_rate"
        )
    gradient = shortened(gradient, norm, config.gradient_norm_max)
    adam_step(
        net.parameters, net.first_moment, net.second_moment, gradient, step=net.steps + 1, rate=rate, epsilon=1e-5
    )
    return net._replace(steps=net.steps + 1)
