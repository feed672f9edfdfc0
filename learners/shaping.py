"""Reward shaping by a potential: what an advisor may add to the rewards that are learned from, never to those reported.

A potential P adds g P(s') - P(s) to the reward of a step from s to s', g the discount: every policy's order stays,
whatever P is (Ng, Harada, Russell 1999, "Policy invariance under reward transformations"). Here P is a linear function
of the observation, fitted to a part of the reward: what that part is worth where one stands. NumPy only.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

RIDGE = 1e-3
"""Of the standardised observations: features that hardly vary get next to no weight."""


def fit_potential(obs: Floats, term: Floats) -> tuple[float, ...] | None:
    """Fit a reward term float32[N], by ridge regression, to the observations after its steps, float32[N, D].

    Rows where it is absent (NaN) don't count. Returns D coefficients, without a constant (it shifts all values alike);
    None with fewer rows than 2 D.
    """
    known = np.isfinite(term)
    x, y = obs[known].astype(np.float64), term[known].astype(np.float64)
    if len(x) < 2 * obs.shape[1]:
        return None
    scale = x.std(axis=0)
    steady = scale < RIDGE
    z = (x - x.mean(axis=0)) / np.where(steady, 1.0, scale)
    z[:, steady] = 0.0
    gram = z.T @ z / len(z) + RIDGE * np.eye(z.shape[1])
    weights = np.linalg.solve(gram, z.T @ (y - y.mean()) / len(z))
    return tuple(float(w) for w in np.where(steady, 0.0, weights / np.where(steady, 1.0, scale)))


def shaping(
    obs: Floats,
    next_obs: Floats,
    discount: Floats,
    potential: tuple[float, ...],
) -> Floats:
    """Return what a potential of D coefficients adds to each row's reward, float64[B].

    A reward may span several steps. obs, next_obs: float32[B, D], before its first step and after its last. discount:
    float[B], of what follows; 0 where the episode ended.
    """
    weights = np.asarray(potential, np.float64)
    assert weights.shape == (obs.shape[1],), (weights.shape, obs.shape)
    added: Floats = discount * (next_obs @ weights) - obs @ weights
    return added
