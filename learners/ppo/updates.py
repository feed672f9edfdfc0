"""Proximal policy optimisation over rollouts, fresh from an environment or aged from a stream.

`init` makes a state, `update` takes it one rollout further: advantages, then epochs of minibatches,
until they are through or the policy has moved far enough. Nothing here draws from global random state;
on one torch thread equal seeds and equal rollouts give equal bits.

Sources: Schulman et al. (2017), "Proximal Policy Optimization Algorithms"; Hilton et al. (2022),
"Batch size-invariance for policy optimization" (data older than the policy); van Hasselt et al. (2016),
"Learning values across many orders of magnitude" (scaled values).
"""

import dataclasses

import numpy as np
import torch

from headrace.learners.nets.adam import adam_step, clip_by_norm, l2_norm, require_finite
from headrace.learners.nets.mlp import backward, forward
from headrace.learners.ppo.config import PPOConfig
from headrace.learners.ppo.policy_gradient import Floats, clipped_surrogate, distribution
from headrace.learners.ppo.rows import Rollout, Rows, prepared, require_finite_columns, with_inputs
from headrace.learners.ppo.state import Net, PPOState, progress_of


def update(state: PPOState, rollout: Rollout) -> tuple[PPOState, dict[str, float]]:
    """Learn from one rollout. The given state stays good, whatever happens.

    Returns the next state, and metrics: `policy_loss`, `value_loss` (in the critic's unit), `entropy`, `kl` (nats, of
    the last minibatch), `clipped_share`, `epochs` (begun), `dropped_share` (rows that were too old), `effective_share`
    (of the rows, by the weights of aged ones), `explained` (share of the targets' variance that the critic had
    foreseen). Raises LearnerDivergedError where a value, a loss or a gradient is not finite, or a loss is beyond its
    limit.
    """
    require_finite_columns(rollout, state)
    state, rows, metrics = prepared(with_inputs(state, rollout), rollout)
    if not len(rows.advantage):
        return dataclasses.replace(state, version=state.version + 1), metrics
    with np.errstate(all="ignore"):  # what is not finite is told by a LearnerDivergedError
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
    policy, critic = (
        _PolicyDescent(config, state.policy.clone(), state.box),
        _CriticDescent(config, state.critic.clone()),
    )
    remaining = 1.0 - progress_of(state)
    metrics: dict[str, float] = {"epochs": 0.0}
    moving = True
    for epoch in range(config.epochs):
        for batch in rows.minibatches(state.rng.permutation(len(rows.advantage)), config.minibatch_size):
            metrics["value_loss"] = critic.step(batch, config.critic_learning_rate * remaining)
            if moving:
                found = policy.step(batch, config.learning_rate * remaining, config.entropy * remaining)
                moving = not config.kl_stop or found["kl"] <= config.kl_stop
                metrics |= found
        metrics["epochs"] = epoch + 1.0
    return policy.net, critic.net, metrics


class _Descent:
    """Gradient descent on one network: its vectors are overwritten, and so is one gradient."""

    def __init__(self, config: PPOConfig, net: Net, box: Floats | None = None) -> None:
        self.net = net
        self._box = box
        self._config = config
        self._gradient = torch.empty_like(net.parameters)
        by_parameters = net._replace(parameters=self._gradient)
        self._layers, self._layer_gradients = net.layers, by_parameters.layers
        self._log_std, self._log_std_gradient = net.log_std, by_parameters.log_std

    def _forward(self, inputs: Floats) -> list[torch.Tensor]:
        return forward(self._layers, torch.from_numpy(inputs), self.net.shape.activation)

    def _descend(self, given: list[torch.Tensor], by_outputs: Floats, rate: float, loss: float, name: str) -> None:
        """Back-propagate, and a step of Adam."""
        config, net, gradient = self._config, self.net, self._gradient
        backward(self._layers, given, torch.from_numpy(by_outputs), net.shape.activation, self._layer_gradients)
        norm, step = l2_norm(gradient), net.steps + 1
        require_finite(f"{name}'s step {step}", loss, config.loss_limit, norm)
        gradient = clip_by_norm(gradient, norm, config.gradient_norm_max)
        adam_step(net.parameters, net.first_moment, net.second_moment, gradient, step=step, rate=rate, epsilon=1e-5)
        self.net = net._replace(steps=step)


class _CriticDescent(_Descent):
    def step(self, batch: Rows, rate: float) -> float:
        """The loss of a minibatch before a step on it."""
        given = self._forward(batch.critic_inputs)
        error = given[-1].numpy()[:, 0] - batch.target
        loss = 0.5 * float(error.dot(error)) / len(error)
        error /= len(error)
        self._descend(given, error[:, None], rate, loss, "value")
        return loss


class _PolicyDescent(_Descent):
    def step(self, batch: Rows, rate: float, entropy: float) -> dict[str, float]:
        """The metrics of a minibatch before a step on it; entropy: its weight."""
        given, rows = self._forward(batch.inputs), len(batch.advantage)
        acted = distribution(given[-1].numpy(), batch.prior, self._log_std, batch.action, self._box)
        log_ratio = acted.log_prob - batch.log_prob
        ratio = np.exp(log_ratio)
        surrogate, by_ratio = clipped_surrogate(ratio, batch.advantage, self._config.clip)
        if batch.weight is not None:
            surrogate, by_ratio = surrogate * batch.weight, by_ratio * batch.weight
        by_log_prob, by_entropy = by_ratio * ratio / rows, -entropy / rows
        metrics = _metrics(log_ratio, ratio, acted.entropy, self._config.clip)
        loss = metrics["policy_loss"] = float(surrogate.sum()) / rows - entropy * metrics["entropy"]
        by_outputs, by_log_std = acted.gradient(by_log_prob, by_entropy)
        if self._log_std_gradient is not None and by_log_std is not None:
            self._log_std_gradient[:] = by_log_std
        self._descend(given, by_outputs, rate, loss, "policy")
        return metrics


def _metrics(log_ratio: Floats, ratio: Floats, entropy: Floats, clip: float) -> dict[str, float]:
    rows, change = len(ratio), ratio - 1.0
    return {
        "entropy": float(entropy.sum()) / rows,
        # Schulman's low-variance estimate of KL(old, new): http://joschu.net/blog/kl-approx.html
        "kl": float((change - log_ratio).sum()) / rows,
        "clipped_share": float(np.count_nonzero(np.abs(change) > clip)) / rows,
    }
