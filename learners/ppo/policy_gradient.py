"""Policy-gradient pieces, their derivatives written out. NumPy only.

Times are in the names, as in `losses`: `r_t` and `discount_t` follow the action taken at t-1, whose
state has the value `v_tm1` and is followed by one of value `v_t`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.learners.tails import hazard, log_prob_of, side_of

Floats = NDArray[np.floating]

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


def generalised_advantages(
    r_t: Floats,
    discount_t: Floats,
    continues_t: NDArray[np.bool_],
    v_tm1: Floats,
    v_t: Floats,
    trace: Floats,
) -> Floats:
    """Generalised advantage estimates of T steps of N trajectories; all are float[T, N].

    `discount_t` is gamma, or 0 where the step was terminal. `continues_t`: bool[T, N], whether the next row is the same
    trajectory's next step. `trace` is lambda.

    `v_t` is the value of the state that truly followed, so a cut-off episode (truncation, or the end
    of the rollout) is bootstrapped from its own last state, not from the next episode's first.

    Source: Schulman et al. (2016), "High-Dimensional Continuous Control Using Generalized Advantage
    Estimation", eq. 16. With `trace` below lambda where data is off-policy: Munos et al. (2016),
    "Safe and efficient off-policy reinforcement learning".

    """
    assert r_t.shape == discount_t.shape == continues_t.shape == v_tm1.shape == v_t.shape == trace.shape
    td_error: Floats = r_t + discount_t * v_t - v_tm1
    decay = discount_t * continues_t
    advantages: Floats = np.empty_like(td_error)
    following: Floats = np.zeros_like(td_error[0])
    for step in reversed(range(len(td_error))):
        advantages[step] = td_error[step] + decay[step] * following
        following = trace[step] * advantages[step]  # a step's own trace says how far those before it believe it
    return advantages


def clipped_surrogate(ratio: Floats, advantage: Floats, epsilon: float) -> tuple[Floats, Floats]:
    """PPO's clipped objective, negated, and its derivative with respect to `ratio`, float32[B] each.

    ratio: float32[B], probability of the action now over its probability at the update's start. A ratio's change pays
    as far as 1 +- epsilon.

    Source: Schulman et al. (2017), "Proximal Policy Optimization Algorithms", eq. 7.
    """
    assert ratio.shape == advantage.shape, (ratio.shape, advantage.shape)
    gain = ratio * advantage
    cut = np.minimum(np.maximum(ratio, 1.0 - epsilon), 1.0 + epsilon) * advantage
    return -np.minimum(gain, cut), np.where(gain <= cut, -advantage, np.float32(0.0))


class Categorical:
    """A softmax policy's actions int64[B], as taken by logits float32[B, A].

    log_prob: float32[B], of the actions. entropy: float32[B], nats.
    """

    def __init__(self, logits: Floats, action: NDArray[np.int64]) -> None:
        # One row an action: sums over actions are then sums of few long rows, twenty times as fast.
        scores = np.ascontiguousarray(logits.T)
        scores -= scores.max(axis=0)
        self._probs = np.exp(scores)
        total = self._probs.sum(axis=0)
        scores -= np.log(total)
        self._probs /= total
        self._log_probs = scores
        self._taken = action * len(action) + np.arange(len(action))
        self.log_prob: Floats = scores.reshape(-1).take(self._taken)
        self.entropy: Floats = -(self._probs * scores).sum(axis=0)

    def gradient(self, by_log_prob: Floats, by_entropy: float) -> tuple[Floats, Floats | None]:
        """A loss's gradient with respect to the logits, float32[B, A], and no more, from its derivatives.

        by_log_prob: float32[B]. by_entropy: the same for each row.
        """
        gradient = self._log_probs + self.entropy
        gradient *= -by_entropy
        gradient -= by_log_prob
        gradient *= self._probs
        gradient.reshape(-1)[self._taken] += by_log_prob
        return np.ascontiguousarray(gradient.T), None


class DiagonalGaussian:
    """Actions float32[B, A] from independent normals, cut to bounds: one at a bound has a probability, not a density.

    mean: float32[B, A]. log_std: float32[A]. box: float32[2, A], the bounds, infinite where there is none. log_prob:
    float32[B], of the actions. entropy: float32[B], of the normals before they are cut.
    """

    def __init__(self, mean: Floats, log_std: Floats, action: Floats, box: Floats) -> None:
        self._within = (log_std >= LOG_STD_MIN) & (log_std <= LOG_STD_MAX)
        log_std = np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)
        self._precision = np.exp(-log_std)
        self._side = side_of(action, box[0], box[1])
        self._standardised = (np.clip(action, box[0], box[1]) - mean) * self._precision
        self.log_prob: Floats = log_prob_of(self._standardised, log_std, self._side).sum(axis=1)
        constant = log_std + np.float32(0.5 * np.log(2.0 * np.pi) + 0.5)
        self.entropy: Floats = np.full(len(mean), constant.sum(), np.float32)

    def gradient(self, by_log_prob: Floats, by_entropy: float) -> tuple[Floats, Floats | None]:
        """With respect to the mean, float32[B, A], and to `log_std`, float32[A] (0 where that is cut off)."""
        slope, by_scale = self._standardised.copy(), np.square(self._standardised) - np.float32(1.0)
        cut = self._side != 0.0
        if cut.any():
            beyond = self._side[cut] * self._standardised[cut]
            falls = hazard(beyond)
            slope[cut], by_scale[cut] = self._side[cut] * falls, falls * beyond
        by_mean = by_log_prob[:, None] * slope * self._precision
        by_log_std = by_log_prob @ by_scale + by_entropy * len(by_log_prob)
        return by_mean, by_log_std * self._within


def distribution(
    outputs: Floats, prior: Floats | None, log_std: Floats | None, action: NDArray[Any], box: Floats | None
) -> Categorical | DiagonalGaussian:
    """Of the actions that B rows of the policy's outputs took. box: of continuous ones."""
    if log_std is not None and box is not None:
        return DiagonalGaussian(outputs, log_std, action, box)
    return Categorical(outputs if prior is None else outputs + prior, action)
