"""The facts of past decisions like one: what was done there, and what followed."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from headrace.learners.explain.choice import named
from headrace.learners.explain.phrases import MAX_NAMED
from headrace.learners.explain.studied import Decision
from headrace.learners.judge.statistics import mean_interval
from headrace.schemas.records import Bounds, Fact, TaskSpec
from headrace.schemas.transition import TransitionBatch

SHOWN = 3
"""Past decisions that are told one by one, the nearest."""
SAME = 0.1
"""Continuous actions are the same when they differ by less, in shares of their range."""


def similar_facts(spec: TaskSpec, decision: Decision) -> Iterator[Fact]:
    """Compute what was done in past decisions like this one, and the rewards that followed.

    Rewards are of the step itself. The decision itself is not one of them.
    """
    if decision.similar is None:
        return
    rows = decision.similar.rows
    others = ~_itself(rows, decision)
    rows, distances = rows.take(others), decision.similar.distances[others]
    if not len(rows):
        return
    same = _same(spec, rows.action, decision.action)
    yield Fact("similar.count", "past decisions like it, that were looked up", len(rows), "decisions")
    yield Fact("similar.same", "past decisions like it, in which the same was done", 100.0 * float(same.mean()), "%")
    yield from _reward("similar.reward", "the same action, mean reward that followed", rows.reward[same])
    yield from _reward("similar.otherwise", "another action, mean reward that followed", rows.reward[~same])
    for place in range(min(SHOWN, len(rows))):
        agent, episode = rows.agents[rows.agent[place]], rows.episodes[rows.episode[place]]
        name = f"{agent} at step {rows.step[place]} of {episode} which took {_told(spec, rows.action[place])}"
        yield Fact(
            f"similar.{place + 1}.reward", f"{name}, reward that followed", float(rows.reward[place]), "per step"
        )
        yield Fact(f"similar.{place + 1}.distance", f"{name}, how far it lies from this one", float(distances[place]))


def _told(spec: TaskSpec, action: NDArray[np.generic]) -> str:
    """Write an action of a row, int32 or float32[A]."""
    if isinstance(spec.actions, tuple):
        return f"\u201c{named(spec, int(action))}\u201d"
    return " and ".join(f"{value:.3g}" for value in np.asarray(action, np.float64).tolist()[:MAX_NAMED])


def _itself(rows: TransitionBatch, decision: Decision) -> NDArray[np.bool_]:
    agents, episodes = np.array(rows.agents)[rows.agent], np.array(rows.episodes)[rows.episode]
    return np.asarray((agents == decision.agent) & (episodes == decision.episode) & (rows.step == decision.step))


def _same(spec: TaskSpec, actions: NDArray[np.generic], action: int | NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which of N actions, int32[N] or float32[N, A], are the one that was taken."""
    if not isinstance(action, np.ndarray):
        return np.asarray(actions == action, np.bool_)
    taken = np.asarray(actions, np.float64)
    bounds = spec.action_bounds or Bounds((), ())
    width = np.array(bounds.high) - np.array(bounds.low)
    spread = np.ptp(taken, axis=0)
    unit = np.where(np.isfinite(width) & (width > 0.0), width, np.where(spread > 0.0, spread, 1.0))
    return np.asarray((np.abs(taken - action) < SAME * unit).all(axis=1), np.bool_)


def _reward(fact_id: str, label: str, rewards: NDArray[np.float32]) -> Iterator[Fact]:
    if len(rewards) == 1:
        yield Fact(fact_id, label, float(rewards[0]), "per step")
    elif len(rewards):
        mean, low, high, _ = mean_interval(rewards)
        yield Fact(fact_id, label, mean, "per step", low, high)
