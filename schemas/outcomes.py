"""Outcomes of rows: one pure function for the stream's chunks, a simulator's rollouts and whoever asks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.records import AgentStats, Outcome, Share, TaskSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measure:
    """An outcome made ready to be read from a task's rows.

    column: of the observation, the reward term or the action's dimension; of a discrete action its number. discrete:
    whether it is one.
    """

    outcome: Outcome
    column: int
    discrete: bool = False

    @property
    def per_episode(self) -> bool:
        """Whether its sum is divided by the episodes that ended, rather than by the rows that it was read from."""
        return self.outcome.measure == "sum_per_episode"

    @property
    def factor(self) -> float:
        """What its mean is multiplied by: shares are told in %."""
        return 100.0 if isinstance(self.outcome.measure, Share) else 1.0

    def told(self, total: float, rows: float, episodes: float) -> float | None:
        """Return the outcome of a sum, in its unit; None where there is nothing that it could be of."""
        count = episodes if self.per_episode else rows
        return self.factor * total / count if count else None


def measures(spec: TaskSpec) -> tuple[Measure, ...]:
    """Return a sound task's outcomes, ready to be read."""
    return tuple(_measure(one, spec) for one in spec.outcomes)


def _measure(outcome: Outcome, spec: TaskSpec) -> Measure:
    source = outcome.of
    if source.observation is not None:
        return Measure(outcome, spec.observations.index(source.observation))
    if source.reward_term is not None:
        return Measure(outcome, spec.reward_terms.index(source.reward_term))
    if isinstance(spec.actions, tuple):
        return Measure(outcome, spec.actions.index(str(source.action)), discrete=True)
    return Measure(outcome, int(source.action or 0))


def tallied(
    ready: Sequence[Measure],
    obs: NDArray[np.float32],
    action: NDArray[Any],
    next_obs: NDArray[np.float32],
    reward_terms: NDArray[np.floating[Any]] | None,
) -> Floats:
    """Return what each of N rows adds to each of O outcomes, float64[N, 2 * O]: to its sum, and to its count of rows.

    obs, next_obs: float32[N, D]. action: int[N], or float32[N, A]. reward_terms: float[N, K], read as
    float32; None where none are known. A value that is no number, as an absent reward term, adds nothing.
    """
    found = np.empty((len(obs), 2 * len(ready)))
    for place, one in enumerate(ready):
        values = _values(one, obs, action, next_obs, reward_terms)
        there = ~np.isnan(values)
        found[:, 2 * place] = np.where(there, values, 0.0)
        found[:, 2 * place + 1] = there
    return found


def _values(
    ready: Measure,
    obs: NDArray[np.float32],
    action: NDArray[Any],
    next_obs: NDArray[np.float32],
    reward_terms: NDArray[np.floating[Any]] | None,
) -> Floats:
    """Return the outcome's value in each row, float64[N]; of a share 1 where the row counts, else 0."""
    source, measure = ready.outcome.of, ready.outcome.measure
    if source.observation is not None:
        column = (next_obs if source.next else obs)[:, ready.column]
    elif source.reward_term is not None:
        column = np.full(len(obs), np.nan) if reward_terms is None else reward_terms[:, ready.column]
        column = column.astype(np.float32)
    else:
        column = action == ready.column if ready.discrete else action[:, ready.column]
    values: Floats = column.astype(np.float64) * ready.outcome.scale + ready.outcome.offset
    if not isinstance(measure, Share):
        return values
    above, below = measure.share_above, measure.share_below
    counts = values > above if above is not None else values < np.float64(below)
    return np.where(np.isnan(values), np.nan, counts)


def told(spec: TaskSpec, stats: AgentStats) -> dict[str, float]:
    """Return the outcomes of what an agent, or all of them, did in a window, by name; those that there are."""
    found = zip(measures(spec), stats.outcomes, stats.outcome_rows, strict=False)
    values = {one.outcome.name: one.told(total, rows, stats.episode_ends) for one, total, rows in found}
    return {name: value for name, value in values.items() if value is not None}
