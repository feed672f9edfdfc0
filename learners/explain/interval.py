"""The facts of a reporting interval, from the window summaries of the stream alone."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, pairwise

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from headrace.learners.explain.facts import change, corrected, refusal_facts, tellable
from headrace.learners.explain.outcome_facts import (
    column_of_episodes,
    interval_outcomes,
    outcome_change,
    outcome_column,
    outcome_id,
)
from headrace.learners.explain.rows import SampledRows, row_facts
from headrace.learners.judge.distributions import t_quantile
from headrace.learners.judge.statistics import MeanInterval
from headrace.schemas.grounding import direction_of
from headrace.schemas.names import slug
from headrace.schemas.outcomes import measures
from headrace.schemas.records import (
    AgentStats,
    ChunkReference,
    Fact,
    Facts,
    PolicyVersion,
    TaskSpec,
    WindowKey,
    WindowSummary,
)

MAX_RULES = 5
MAX_VERSIONS = 5
SHORTEST_SILENCE_MS = 1_000
"""A time for which it is worth saying that nothing was rejected in it."""


@dataclass(frozen=True, slots=True)
class RejectedCounts:
    """Messages rejected after `after_ms` and until `until_ms` by the log's clock, of all tasks, by rule.

    An event time cannot be trusted where a message was rejected, so that theirs is the time of the log.
    """

    counts: Mapping[str, int]
    after_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class Totals:
    """What happened in an interval: sums over its windows, of U units (agents, or groups of unnamed ones).

    table: float64[U, 2 + K]: rows, reward sum, sum of each reward term; where the task declares O outcomes 1 + 2 * O
    columns more: episodes that ended, then each outcome's sum and rows. by_version: rows and reward sum of what
    was done under one version alone. windows: by window start, rows and reward sum. late_rows: rows that came
    after their window's first summary. named: whether all units are agents. references: a chunk of each window.
    """

    start_ms: int
    end_ms: int
    rows: int
    duplicates: int
    late_rows: int
    episodes: int
    named: bool
    units: tuple[str, ...]
    table: NDArray[np.float64]
    actions: Counter[int]
    versions: Counter[int]
    by_version: dict[int, tuple[int, float]]
    windows: dict[int, tuple[int, float]]
    references: tuple[ChunkReference, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """A window's last summary, packed: an agent costs 8 bytes a number here, as a struct ten times that."""

    summary: WindowSummary
    first_rows: int
    named: bool
    codes: NDArray[np.int32]
    table: NDArray[np.float64]
    by_version: dict[int, tuple[int, float]]
    references: list[ChunkReference]


class IntervalFold:
    """Takes the summaries of an interval's windows, the last of each counts. terms, outcomes: K and O of the task."""

    def __init__(self, start_ms: int, end_ms: int, terms: int, outcomes: int = 0) -> None:
        self.start_ms = start_ms
        self.end_ms = end_ms
        self._terms = terms
        self._width = 2 + terms + (1 + 2 * outcomes if outcomes else 0)
        self._codes: dict[str, int] = {}
        self._windows: dict[WindowKey, _Window] = {}

    def add(self, summary: WindowSummary) -> None:
        """Take a summary; it replaces an earlier one of the same window."""
        before = self._windows.get(summary.key)
        stats = summary.agents or [summary.totals]
        names = [one.agent_id or f"group {summary.group}" for one in stats]
        codes = [self._codes.setdefault(name, len(self._codes)) for name in names]
        table = np.zeros((len(stats), self._width))
        for row, one in zip(table, stats, strict=True):
            parts = one.reward_terms[: self._terms]
            row[: 2 + len(parts)] = (one.rows, one.reward_sum, *parts)
            more = [one.episode_ends, *chain(*zip(one.outcomes, one.outcome_rows, strict=False))]
            more = more[: self._width - 2 - self._terms]
            row[2 + self._terms : 2 + self._terms + len(more)] = more
        self._windows[summary.key] = _Window(
            replace(summary, agents=[], chunks=[]),
            before.first_rows if before else summary.rows,
            bool(summary.agents) or not summary.rows,
            np.array(codes, np.int32),
            table,
            _by_version(stats),
            summary.references[-1:],
        )

    def totals(self) -> Totals:
        """Add the windows up, in the order of their keys."""
        windows = [self._windows[key] for key in sorted(self._windows)]
        table = np.zeros((len(self._codes), self._width))
        actions, versions = Counter[int](), Counter[int]()
        by_version: dict[int, tuple[int, float]] = {}
        course: dict[int, tuple[int, float]] = {}
        for window in windows:
            summary = window.summary
            np.add.at(table, window.codes, window.table)
            actions.update(dict(enumerate(summary.totals.actions)))
            versions.update(summary.totals.policy_versions)
            _accumulate(by_version, window.by_version)
            _accumulate(course, {summary.start_ms: (summary.rows, summary.totals.reward_sum)})
        return Totals(
            self.start_ms,
            self.end_ms,
            rows=sum(window.summary.rows for window in windows),
            duplicates=sum(window.summary.duplicates for window in windows),
            late_rows=sum(max(0, window.summary.rows - window.first_rows) for window in windows),
            episodes=sum(window.summary.totals.episode_ends for window in windows),
            named=all(window.named for window in windows),
            units=tuple(self._codes),
            table=table,
            actions=actions,
            versions=versions,
            by_version=by_version,
            windows=course,
            references=tuple(reference for window in windows for reference in window.references),
        )


def _by_version(stats: list[AgentStats]) -> dict[int, tuple[int, float]]:
    """Sum rows and reward of the agents that one version alone served."""
    found: dict[int, tuple[int, float]] = {}
    for one in stats:
        if len(one.policy_versions) == 1:
            _accumulate(found, {next(iter(one.policy_versions)): (one.rows, one.reward_sum)})
    return found


def _accumulate(sums: dict[int, tuple[int, float]], more: Mapping[int, tuple[int, float]]) -> None:
    for key, (rows, reward) in more.items():
        before = sums.get(key, (0, 0.0))
        sums[key] = (before[0] + rows, before[1] + reward)


def ratio_difference(current: Totals, previous: Totals, column: int, per: int = 0) -> MeanInterval | None:
    """Compare two intervals' sums per row, with the units as the sample: None where there are too few.

    column: of the sums. per: of what they are divided by, rows or what else is counted.
    A unit's rows depend on each other, so the interval is the ratio estimator's, linearised, over units; a
    unit that is in both intervals is paired with itself. Source: Cochran, Sampling Techniques, 6.3-6.4.
    """
    names = sorted({*current.units, *previous.units})
    if len(names) < 3 or not all(total.table[:, per].any() for total in (current, previous)):
        return None
    own, old = (_linearised(total, names, column, per) for total in (current, previous))
    mean, residuals, count = own[0] - old[0], own[1] - old[1], len(names)
    deviation = math.sqrt(float(residuals @ residuals) * count / (count - 1))
    half = t_quantile(count - 1, 0.975) * deviation
    return MeanInterval(mean, mean - half, mean + half, count)


def _linearised(total: Totals, names: list[str], column: int, per: int) -> tuple[float, NDArray[np.float64]]:
    """Return the sum per row, and each unit's part in its error: float64[U]."""
    place = {name: number for number, name in enumerate(names)}
    table = np.zeros((len(names), 2))
    table[[place[name] for name in total.units]] = total.table[:, [per, column]]
    rows, sums = table.sum(axis=0)
    ratio = float(sums / rows)
    return ratio, (table[:, 1] - ratio * table[:, 0]) / float(rows)


def interval_facts(
    spec: TaskSpec,
    current: Totals,
    previous: Totals | None,
    rejected: RejectedCounts | None = None,
    unreported: int = 0,
    rows: SampledRows | None = None,
    learned: Sequence[PolicyVersion] = (),
    operations: Sequence[Fact] = (),
) -> Facts:
    """Compute what an interval's report may speak of.

    rejected: None where that is not known. unreported: windows told too late for their own report. rows: of both
    intervals, where they were read. learned: the task's versions, in order. operations: how the jobs ran meanwhile.
    """
    if previous is not None and not previous.rows:
        previous = None
    found = [
        *_volume_facts(current, previous, unreported),
        *interval_outcomes(spec, current),
        *_reward_facts(spec, current),
        *_reward_changes(spec, current, previous),
        *_action_facts(spec, current),
        *_version_facts(current, previous),
        *(row_facts(spec, rows) if rows else ()),
        *_refused(learned, current),
        *operations,
        *(_rejected_then(rejected, current) if rejected else ()),
    ]
    return Facts(spec.task, span(current.start_ms, current.end_ms), tuple(tellable(found)))


def span(start_ms: int, end_ms: int) -> str:
    """Write an interval for people: 1 Jun 2026, 06:00 to 12:00 UTC."""
    return between(start_ms, end_ms, ",", "%H:%M")


def between(start_ms: int, end_ms: int, comma: str = "", clock: str = "%H:%M:%S") -> str:
    """Write two moments; the second one's date only where it is another."""
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (start_ms, end_ms))
    until = f"{end:{clock}} UTC" if start.date() == end.date() else moment_text(end_ms, comma, clock)
    return f"{moment_text(start_ms, comma, clock).removesuffix(' UTC')} to {until}"


def moment_text(ms: int, comma: str = "", clock: str = "%H:%M:%S") -> str:
    """Write a moment: 1 Jun 2026 06:00:00 UTC. comma: after the date; the first part of a label can't have one."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{moment.day} {moment:%b %Y}{comma} {moment:{clock}} UTC"


def rows_comparable(current: Totals, previous: Totals) -> bool:
    """Whether a change in rows would tell of the agents, not of where the intervals' bounds lie.

    An agent of a constant pace has one row more in one interval than in the next where the pace does not divide them.
    """
    by_bounds = 0 < abs(current.rows - previous.rows) <= len(previous.units)
    return not by_bounds and not _began_within(previous)


def _began_within(total: Totals) -> bool:
    """Whether a task seems to have begun within an interval: nothing is in it at first for longer than ever after."""
    starts = [start_ms for start_ms, (rows, _) in sorted(total.windows.items()) if rows]
    gaps = [after - before for before, after in pairwise(starts)]
    return bool(starts) and starts[0] - total.start_ms >= max(gaps, default=1)


def _volume_facts(current: Totals, previous: Totals | None, unreported: int) -> Iterator[Fact]:
    yield Fact("rows.total", "transitions", current.rows, "rows")
    if previous is not None and rows_comparable(current, previous):
        value = 100.0 * (current.rows / previous.rows - 1.0)
        label = "transitions, against the interval before"
        yield Fact("rows.change", label, value, "%", direction=direction_of(value))
    if current.named:
        yield Fact("agents.total", "agents that sent transitions", len(current.units), "agents")
    yield Fact("episodes.ended", "episodes that ended", current.episodes, "episodes")
    yield Fact("rows.duplicates", "duplicates, dropped", current.duplicates, "rows")
    yield Fact("rows.late", "late rows, after their window's first summary", current.late_rows, "rows")
    if unreported:
        label = "windows of earlier intervals, told too late for their own report"
        yield Fact("rows.unreported", label, unreported, "windows")


def _columns(spec: TaskSpec) -> list[tuple[str, str]]:
    """Return the key for ids and the name of the reward and of its terms, in the order of a table's columns."""
    return [("reward", "reward"), *((f"term.{slug(term)}", term) for term in spec.reward_terms)]


def _reward_facts(spec: TaskSpec, current: Totals) -> Iterator[Fact]:
    if not current.rows:
        return
    table = current.table.sum(axis=0)
    for place, (key, name) in enumerate(_columns(spec), start=1):
        yield Fact(f"{key}.mean", f"{name}, per step", float(table[place] / table[0]), "per step")


def _reward_changes(spec: TaskSpec, current: Totals, previous: Totals | None) -> Iterator[Fact]:
    if previous is None:
        return
    changes, count = [], 0
    for place, (key, name) in enumerate(_columns(spec), start=1):
        interval = ratio_difference(current, previous, place)
        if interval is not None:
            count = interval.n  # the units: the same for each column
            label = f"{name}, per step, against the interval before"
            changes.append(change(f"{key}.change", label, interval, "per step"))
    if changes:
        changes += _outcome_changes(spec, current, previous)
    yield from corrected(changes, count)


def _outcome_changes(spec: TaskSpec, current: Totals, previous: Totals) -> Iterator[Fact]:
    for place, ready in enumerate(measures(spec)):
        column = outcome_column(spec, place)
        per = column_of_episodes(spec) if ready.per_episode else column + 1
        found = ratio_difference(current, previous, column, per)
        if found is not None:
            mean, low, high = (ready.factor * number for number in found[:3])
            label = f"{ready.outcome.name}, against the interval before"
            interval = MeanInterval(mean, low, high, found.n)
            yield outcome_change(ready, f"{outcome_id(ready)}.change", label, interval)


def _action_facts(spec: TaskSpec, current: Totals) -> Iterator[Fact]:
    taken = sum(current.actions.values())
    if isinstance(spec.actions, tuple) and taken:
        known = Counter({action: count for action, count in current.actions.items() if action < len(spec.actions)})
        for action, count in sorted(known.most_common(6)):
            label = f"{spec.actions[action]}, share of actions taken"
            yield Fact(f"action.{slug(spec.actions[action])}", label, 100.0 * count / taken, "%")


def _version_facts(current: Totals, previous: Totals | None) -> Iterator[Fact]:
    for version, rows in sorted(current.versions.most_common(MAX_VERSIONS)):
        name, share = f"v{version}", 100.0 * rows / max(current.rows, 1)
        yield Fact(f"version.{version}.share", f"{name}, share of transitions", share, "%")
        alone = current.by_version.get(version)
        if alone and alone[0]:
            label = f"{name}, mean reward per step where it served alone"
            yield Fact(f"version.{version}.reward", label, alone[1] / alone[0], "per step")
    if previous is not None and (current.versions or previous.versions):
        label = "versions, at work in one of this interval and the one before, but not in both"
        yield Fact("versions.changed", label, len(current.versions.keys() ^ previous.versions.keys()), "versions")


def _refused(learned: Sequence[PolicyVersion], current: Totals) -> Iterator[Fact]:
    """How many candidates in a row the gate had refused, as of the last that was learned from the interval's rows.

    A version has no time of its own; that of its newest row is the same however late the report is made.
    """
    ends = {one.version: max(reference.start_ms for reference in one.references) for one in learned if one.lineage}
    until = [one for one in learned if ends.get(one.version, current.end_ms) < current.end_ms]
    if until and until[-1].refusals and ends[until[-1].version] >= current.start_ms:
        newest = until[-1]
        yield from refusal_facts(newest.refusals, f"v{newest.version} the newest", until[-newest.refusals :])


def _rejected_then(rejected: RejectedCounts, current: Totals) -> Iterator[Fact]:
    """By rule name: those are headrace's own; what a producer wrote never gets here.

    That nothing was rejected is told only where the log's time is the interval's own: of history that was
    imported it would be read as if it held of the time when it happened.
    """
    total = sum(rejected.counts.values())
    apart = abs(rejected.until_ms - current.end_ms) > current.end_ms - current.start_ms
    if not total and (apart or rejected.until_ms - rejected.after_ms < SHORTEST_SILENCE_MS):
        return
    when = between(rejected.after_ms, rejected.until_ms)
    yield from rejected_facts(rejected.counts, f"from {when}")


def rejected_facts(counts: Mapping[str, int], when: str) -> Iterator[Fact]:
    """Tell how many messages were rejected, and by which rules. when: without a comma."""
    total, common = sum(counts.values()), Counter(counts).most_common()
    yield Fact("rejected.total", f"{when}, messages of all tasks rejected, by the log's clock", total, "messages")
    for rule, count in sorted(common[:MAX_RULES]):
        yield Fact(f"rejected.{slug(rule)}", f"rule {rule}, messages rejected", count, "messages")
    others = sum(count for _, count in common[MAX_RULES:])
    if others:
        yield Fact("rejected.others", "other rules, messages rejected", others, "messages")
