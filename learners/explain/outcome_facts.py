"""The facts of outcomes, the numbers that people know a task by: of a version beside others, and of an interval.

`outcome.SLO`: the level. `outcome.SLO.serving`, `outcome.SLO.hpa`: those of the version before and of a baseline.
`outcome.SLO.vs-hpa`, `outcome.SLO.change`: differences.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from headrace.learners.explain.evidence import Outcomes, VersionEvidence, controller_name
from headrace.learners.judge.statistics import MeanInterval, mean_interval, paired_difference, ratio_values
from headrace.schemas.grounding import direction_of
from headrace.schemas.names import slug
from headrace.schemas.outcomes import Measure, measures
from headrace.schemas.records import Fact, TaskSpec

if TYPE_CHECKING:
    from headrace.learners.explain.interval import Totals


def rivals(evidence: VersionEvidence) -> dict[str, Outcomes]:
    """Whom outcomes are told beside: the version before, and the baseline that most people know.

    They are few, because each comparison more makes all of them less sure.
    """
    return {key: one for key, one in evidence.others.items() if key in {"serving", evidence.familiar}}


def outcome_levels(spec: TaskSpec, own: Outcomes, others: dict[str, Outcomes]) -> Iterator[Fact]:
    """Yield each outcome on the fixed traces: the version's own, and the others'."""
    for place, ready in enumerate(measures(spec)):
        name, fact_id = ready.outcome.name, outcome_id(ready)
        values = _values(ready, own, place)
        if values is not None:
            yield _level(ready, fact_id, f"{name}, its own on the fixed traces", mean_interval(values))
            for key, other in others.items():
                theirs = _values(ready, other, place)
                if theirs is not None:
                    label = f"{name}, of {controller_name(spec, key)}"
                    yield _level(ready, f"{fact_id}.{slug(key)}", label, mean_interval(theirs))


def outcome_differences(spec: TaskSpec, own: Outcomes, others: dict[str, Outcomes]) -> Iterator[Fact]:
    """Yield the paired differences in each outcome on the fixed traces."""
    for place, ready in enumerate(measures(spec)):
        values = _values(ready, own, place)
        for key, other in others.items():
            theirs = _values(ready, other, place)
            if values is not None and theirs is not None:
                label = f"{ready.outcome.name}, difference to {controller_name(spec, key)}"
                fact_id = f"{outcome_id(ready)}.vs-{slug(key)}"
                yield outcome_change(ready, fact_id, label, paired_difference(values, theirs))


def interval_outcomes(spec: TaskSpec, current: "Totals") -> Iterator[Fact]:
    """Yield each outcome of what came in, as it was observed, exploration and all."""
    sums = current.table.sum(axis=0)
    for place, ready in enumerate(measures(spec)):
        column = outcome_column(spec, place)
        value = ready.told(sums[column], sums[column + 1], sums[column_of_episodes(spec)])
        if value is not None:
            label = f"{ready.outcome.name}, of all agents"
            yield Fact(outcome_id(ready), label, float(value), ready.outcome.unit, better=ready.outcome.better)


def column_of_episodes(spec: TaskSpec) -> int:
    """Return where a table of `Totals` has the episodes that ended, if the task declares outcomes."""
    return 2 + len(spec.reward_terms)


def outcome_column(spec: TaskSpec, place: int) -> int:
    """Return where a table of `Totals` has an outcome's sum; the rows that it was read from stand behind it."""
    return column_of_episodes(spec) + 1 + 2 * place


def outcome_id(ready: Measure) -> str:
    """Return the id of an outcome's level."""
    return f"outcome.{slug(ready.outcome.name)}"


def outcome_change(ready: Measure, fact_id: str, label: str, interval: MeanInterval) -> Fact:
    """Make the fact of a difference in an outcome; that of two percentages is told in percentage points."""
    mean, low, high, _ = interval
    unit = "percentage points" if ready.outcome.unit == "%" else ready.outcome.unit
    return Fact(fact_id, label, mean, unit, low, high, direction_of(mean, low, high), ready.outcome.better)


def _level(ready: Measure, fact_id: str, label: str, interval: MeanInterval) -> Fact:
    mean, low, high, _ = interval
    return Fact(fact_id, label, mean, ready.outcome.unit, low, high, better=ready.outcome.better)


def _values(ready: Measure, done: Outcomes, place: int) -> "np.ndarray | None":
    """Return values float64[N], of each trace, whose mean is the outcome over all rows, and whose spread its error."""
    if 2 * place >= done.tallies.shape[1]:
        return None
    sums, rows = done.tallies[:, 2 * place], done.tallies[:, 2 * place + 1]
    if not rows.any() or len(rows) < 2:
        return None
    return ready.factor * ratio_values(sums, np.ones(len(rows)) if ready.per_episode else rows)
