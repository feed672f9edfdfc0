"""Facts that need an interval's rows, a bounded part of them: what agents earned and did by version, and vectors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.explain.behaviour import MAX_DIMENSIONS, at_bounds, dimension_name
from headrace.learners.explain.facts import change, observed_fact
from headrace.learners.judge.observed import ObservedReturn, observed_returns
from headrace.learners.judge.statistics import MeanInterval
from headrace.schemas.names import slug
from headrace.schemas.records import Bounds, Fact, TaskSpec
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch, concat


@dataclass(frozen=True, slots=True, eq=False)
class SampledRows:
    """Rows of an interval and of the one before it, from a bounded number of their chunks."""

    current: Sequence[TransitionBatch]
    previous: Sequence[TransitionBatch] = ()


LEAST_ROWS: Final = 20
"""Rows that a version needs to be told of."""
_BINS: Final = 24


def row_facts(spec: TaskSpec, rows: SampledRows) -> Iterator[Fact]:
    """Compute what the rows tell: the two newest versions beside each other, and continuous actions."""
    batches = [*rows.previous, *rows.current]
    observed = [one for one in observed_returns(batches) if one.version != NO_POLICY_VERSION and one.rows >= LEAST_ROWS]
    yield from _observed_facts(observed[-2:])
    if len(observed) > 1 and isinstance(spec.actions, tuple):
        yield from _shift_facts(spec.actions, concat(batches), observed[-2].version, observed[-1].version)
    if (bounds := spec.action_bounds) and rows.current:
        yield from _taken_facts(bounds, concat(rows.current))


def _observed_facts(observed: Sequence[ObservedReturn]) -> Iterator[Fact]:
    """What agents earned by the newest versions at work, and the difference, where both have an interval."""
    yield from map(observed_fact, observed)
    if len(observed) < 2 or observed[0].measure != observed[1].measure:
        return
    before, after = observed
    if before.low is None or before.high is None or after.low is None or after.high is None:
        return
    mean = after.mean - before.mean
    half = float(np.hypot(after.high - after.low, before.high - before.low)) / 2.0
    interval = MeanInterval(mean, mean - half, mean + half, min(before.agents, after.agents))
    unit = "return" if after.measure == "return" else "per step"
    label = f"v{after.version}, what agents earned by it less by v{before.version}, at other times"
    yield change("earned.change", label, interval, unit)


def _shift_facts(names: tuple[str, ...], rows: TransitionBatch, before: int, after: int) -> Iterator[Fact]:
    """The action whose share is another most of all under the newer version."""
    shares = [np.bincount(rows.action[rows.policy_version == one], minlength=len(names)) for one in (before, after)]
    old, new = (100.0 * counts / max(counts.sum(), 1) for counts in shares)
    action = int(np.abs(new - old)[: len(names)].argmax())
    for version, share in ((before, old[action]), (after, new[action])):
        label = f"{names[action]}, share of the actions taken under v{version}"
        yield Fact(f"shift.{version}.{slug(names[action])}", label, float(share), "%")


def _taken_facts(bounds: Bounds, rows: TransitionBatch) -> Iterator[Fact]:
    """Of each dimension: the mean, how often it lies at a bound, and how far it moves from step to step."""
    count = len(bounds.low)
    before, after = consecutive(rows)
    for place in range(min(count, MAX_DIMENSIONS)):
        name, low, high = dimension_name(place, count), bounds.low[place], bounds.high[place]
        taken = rows.action[:, place].astype(np.float64)
        yield Fact(f"taken.d{place + 1}", f"{name}, mean of what was taken", float(taken.mean()))
        for side, share in zip(("lowest", "highest"), at_bounds(taken, low, high), strict=True):
            if share is not None:
                yield Fact(f"saturation.d{place + 1}.{side}", f"{name}, taken at its {side} value", share, "%")
        width = high - low if np.isfinite(high - low) and high > low else float(np.ptp(taken)) or 1.0
        if len(before):
            moves = 100.0 * np.abs(taken[after] - taken[before]) / width
            label = f"{name}, mean move from one step to the next, of its range"
            yield Fact(f"smoothness.d{place + 1}", label, float(moves.mean()), "%")


def consecutive(rows: TransitionBatch) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places of rows and of those that follow them, one step later in the same episode of an agent."""
    order = np.lexsort((rows.step, rows.episode, rows.agent))
    first, second = order[:-1], order[1:]
    same = (rows.agent[first] == rows.agent[second]) & (rows.episode[first] == rows.episode[second])
    follows = same & (rows.step[second] == rows.step[first] + 1)
    return first[follows], second[follows]


def taken_histogram(rows: TransitionBatch, bounds: Bounds, place: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the middles of a dimension's bins, between its bounds where it has any, and each one's share in %."""
    taken = rows.action[:, place].astype(np.float64)
    low, high = bounds.low[place], bounds.high[place]
    bounded = np.isfinite(high - low) and high > low
    counts, edges = np.histogram(taken, bins=_BINS, range=(low, high) if bounded else None)
    return tuple(((edges[1:] + edges[:-1]) / 2.0).tolist()), tuple((100.0 * counts / max(len(taken), 1)).tolist())
