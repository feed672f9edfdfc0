"""The facts of a reporting interval, from the window summaries of the stream alone."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from headrace.learners.explain.evidence import slug
from headrace.learners.explain.facts import change, unique
from headrace.learners.statistics import MeanInterval
from headrace.schemas.grounding import direction_of
from headrace.schemas.records import AgentStats, Fact, Facts, TaskSpec, WindowSummary

MAX_RULES = 5
MAX_VERSIONS = 5


@dataclass(slots=True)
class Totals:
    """What happened in an interval. Sums over its windows; a unit is an agent, or a group of unnamed ones.

    units: by unit, [rows, reward sum, sum of each reward term]. by_version: rows and reward sum of what was
    done under one version alone. windows: by window start, rows and reward sum. late_rows: rows that came
    after their window's first summary.
    """

    start_ms: int
    end_ms: int
    rows: int = 0
    duplicates: int = 0
    late_rows: int = 0
    episodes: int = 0
    named: bool = True
    units: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    actions: Counter[int] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    by_version: dict[int, tuple[int, float]] = field(default_factory=dict)
    windows: dict[int, tuple[int, float]] = field(default_factory=dict)


def totals(start_ms: int, end_ms: int, summaries: Iterable[tuple[WindowSummary, int]], terms: int) -> Totals:
    """Add up the last summary of each window, given with the rows of its first; terms: K of the task."""
    total = Totals(start_ms, end_ms)
    for summary, first_rows in summaries:
        total.rows += summary.rows
        total.duplicates += summary.duplicates
        total.late_rows += max(0, summary.rows - first_rows)
        total.episodes += summary.totals.episode_ends
        total.actions.update(dict(enumerate(summary.totals.actions)))
        total.versions.update(summary.totals.policy_versions)
        rows, reward = total.windows.get(summary.start_ms, (0, 0.0))
        total.windows[summary.start_ms] = (rows + summary.rows, reward + summary.totals.reward_sum)
        total.named = total.named and (bool(summary.agents) or not summary.rows)
        for stats in summary.agents or [summary.totals]:
            _add_unit(total, stats.agent_id or f"group {summary.group}", stats, terms)
    return total


def _add_unit(total: Totals, unit: str, stats: AgentStats, terms: int) -> None:
    row = total.units.setdefault(unit, np.zeros(2 + terms))
    row[:2] += (stats.rows, stats.reward_sum)
    parts = stats.reward_terms[:terms]
    row[2 : 2 + len(parts)] += parts
    if len(stats.policy_versions) == 1:
        ((version, _),) = stats.policy_versions.items()
        rows, reward = total.by_version.get(version, (0, 0.0))
        total.by_version[version] = (rows + stats.rows, reward + stats.reward_sum)


def ratio_difference(current: Totals, previous: Totals, column: int) -> MeanInterval | None:
    """Compare two intervals' sums per row, with the units as the sample: None where there are too few.

    A unit's rows depend on each other, so the interval is the ratio estimator's, linearised, over units; a
    unit that is in both intervals is paired with itself. Source: Cochran, Sampling Techniques, 6.3-6.4.
    """
    names = sorted(current.units.keys() | previous.units.keys())
    if len(names) < 3 or not current.rows or not previous.rows:
        return None
    own, old = (_linearised(total, names, column) for total in (current, previous))
    mean = own[0] - old[0]
    residuals = own[1] - old[1]
    count = len(names)
    deviation = math.sqrt(float(residuals @ residuals) * count / (count - 1))
    half = float(stdtrit(count - 1, 0.975)) * deviation
    return MeanInterval(mean, mean - half, mean + half, count)


def _linearised(total: Totals, names: list[str], column: int) -> tuple[float, NDArray[np.float64]]:
    """Return the sum per row, and each unit's part in its error: float64[U]."""
    empty = np.zeros(2 + column)
    table = np.array([total.units.get(name, empty)[[0, column]] for name in names])
    rows, sums = table.sum(axis=0)
    ratio = float(sums / rows)
    return ratio, (table[:, 1] - ratio * table[:, 0]) / float(rows)


def interval_facts(
    spec: TaskSpec,
    current: Totals,
    previous: Totals | None,
    rejected: Mapping[str, int],
    unreported: int = 0,
) -> Facts:
    """Compute what an interval's report may speak of.

    rejected: messages by rule. unreported: rows that came too late for the report of their own interval.
    """
    if previous is not None and not previous.rows:
        previous = None
    found = list(_volume_facts(current, previous, unreported))
    found += _reward_facts(spec, current, previous)
    found += _action_facts(spec, current)
    found += _version_facts(current)
    found += _rejected_facts(rejected)
    return Facts(spec.task, span(current.start_ms, current.end_ms), tuple(unique(found)))


def span(start_ms: int, end_ms: int) -> str:
    """Write an interval for people: 1 Jun 2026, 06:00 to 12:00 UTC."""
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (start_ms, end_ms))
    first = f"{start.day} {start:%b %Y, %H:%M}"
    if start.date() == end.date():
        return f"{first} to {end:%H:%M} UTC"
    return f"{first} to {end.day} {end:%b %Y, %H:%M} UTC"


def _volume_facts(current: Totals, previous: Totals | None, unreported: int) -> Iterator[Fact]:
    yield Fact("rows.total", "transitions", current.rows, "rows")
    if previous is not None:
        value = 100.0 * (current.rows / previous.rows - 1.0)
        label = "transitions, against the interval before"
        yield Fact("rows.change", label, value, "%", direction=direction_of(value))
    if current.named:
        yield Fact("agents.total", "agents that sent transitions", len(current.units), "agents")
    yield Fact("episodes.ended", "episodes that ended", current.episodes, "episodes")
    yield Fact("rows.duplicates", "duplicates, dropped", current.duplicates, "rows")
    yield Fact("rows.late", "late rows, after their window's first summary", current.late_rows, "rows")
    if unreported:
        label = "rows of earlier intervals, too late for their own report"
        yield Fact("rows.unreported", label, unreported, "rows")


def _reward_facts(spec: TaskSpec, current: Totals, previous: Totals | None) -> Iterator[Fact]:
    if not current.rows:
        return
    columns = [("reward", "reward"), *((f"term.{slug(term)}", term) for term in spec.reward_terms)]
    table = np.array(list(current.units.values())).sum(axis=0)
    for place, (key, name) in enumerate(columns, start=1):
        level = float(table[place] / table[0])
        yield Fact(f"{key}.mean", f"{name}, per step", level, "per step")
        if previous is None:
            continue
        interval = ratio_difference(current, previous, place)
        label = f"{name}, per step, against the interval before"
        if interval is not None:
            yield change(f"{key}.change", label, interval, "per step")


def _action_facts(spec: TaskSpec, current: Totals) -> Iterator[Fact]:
    taken = sum(current.actions.values())
    if isinstance(spec.actions, tuple) and taken:
        for action, count in sorted(current.actions.most_common(6)):
            label = f"{spec.actions[action]}, share of actions taken"
            yield Fact(f"action.{slug(spec.actions[action])}", label, 100.0 * count / taken, "%")


def _version_facts(current: Totals) -> Iterator[Fact]:
    for version, rows in sorted(current.versions.most_common(MAX_VERSIONS)):
        name = f"v{version}"
        yield Fact(
            f"version.{version}.share",
            f"{name}, share of transitions",
            100.0 * rows / max(current.rows, 1),
            "%",
        )
        alone = current.by_version.get(version)
        if alone is not None and alone[0]:
            label = f"{name}, mean reward per step where it served alone"
            yield Fact(f"version.{version}.reward", label, alone[1] / alone[0], "per step")


def _rejected_facts(rejected: Mapping[str, int]) -> Iterator[Fact]:
    """By rule name: those are headrace's own; what a producer wrote never gets here."""
    yield Fact("rejected.total", "messages rejected", sum(rejected.values()), "messages")
    common = Counter(rejected).most_common()
    for rule, count in sorted(common[:MAX_RULES]):
        yield Fact(f"rejected.{slug(rule)}", f"rule {rule}, messages rejected", count, "messages")
    others = sum(count for _, count in common[MAX_RULES:])
    if others:
        yield Fact("rejected.others", "other rules, messages rejected", others, "messages")
