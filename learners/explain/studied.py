"""What the facts of a decision are computed from: the decision, and a version that was prepared to be asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.explain.counterfactual import Span, spans
from headrace.learners.explain.surrogate import Surrogate, surrogate
from headrace.schemas.decisions import Neighbours


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """One decision of an agent.

    obs: float32[D]. action: a number from 0, or float32[A]. history: float32[T, D], what the agent saw before in its
    episode, the oldest first: rules remember. similar: past decisions, the nearest first. rules: by name what rules
    that the environment does not know would do. rival: the action that is asked about, as in "why not that one".
    """

    agent: str
    episode: str
    step: int
    obs: NDArray[np.float32]
    action: int | NDArray[np.float32]
    history: NDArray[np.float32] | None = None
    similar: Neighbours | None = None
    rules: Mapping[str, int] = field(default_factory=dict)
    rival: int | None = None

    @property
    def subject(self) -> str:
        """What a report on it is called."""
        return f"{self.agent} at step {self.step} of {self.episode}"


@dataclass(frozen=True, slots=True, eq=False)
class StudiedPolicy:
    """A version that can be asked about decisions.

    typical: float64[D], the mean of recent observations. spans: of each feature there. tree: None where rows are few.
    """

    version: int
    policy: Policy | BoxPolicy
    typical: NDArray[np.float64]
    spans: list[Span]
    tree: Surrogate | None


def studied(version: int, policy: Policy | BoxPolicy, obs: NDArray[np.float32]) -> StudiedPolicy:
    """Prepare a version, once. obs: float32[M, D], recent rows of its task, M of 1 or more; 2,000 are plenty."""
    assert obs.ndim == 2, obs.shape
    assert len(obs), obs.shape
    tree = surrogate(obs, targets(policy, obs), discrete=isinstance(policy, Policy))
    return StudiedPolicy(version, policy, obs.mean(axis=0, dtype=np.float64), spans(obs), tree)


def targets(policy: Policy | BoxPolicy, obs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what a policy holds for the best, float64[M, T]: ones and zeros of named actions, shares of the range."""
    if isinstance(policy, Policy):
        return np.asarray(np.eye(policy.actions)[policy.q_values(obs).argmax(axis=1)], np.float64)
    return np.asarray(policy.act(obs).astype(np.float64) / action_range(policy), np.float64)


def action_range(policy: BoxPolicy) -> NDArray[np.float64]:
    """Return what continuous actions are measured by, float64[A]: the width of their bounds, else four deviations."""
    low, high = policy.bounds
    width = high - low
    return np.where(np.isfinite(width) & (width > 0.0), width, 4.0 * np.exp(policy.log_std.astype(np.float64)))
