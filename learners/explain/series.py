"""The series of a report's plots, by plot: what `headrace.pipelines.report.plots` draws."""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from headrace.learners.explain.behaviour import MAX_DIMENSIONS, dimension_name
from headrace.learners.explain.evidence import (
    ContinuousDecisions,
    RecordedDecisions,
    VersionEvidence,
    controller_name,
    controllers,
    situations,
)
from headrace.learners.explain.interval import Totals
from headrace.learners.explain.rows import SampledRows, taken_histogram
from headrace.learners.judge.statistics import paired_difference
from headrace.schemas.records import PolicyVersion, Series, TaskSpec
from headrace.schemas.transition import concat

MAX_POINTS = 200
ESTIMATED = "policy, by recorded rows"
"""What the learning curve is called where no simulator judged the versions: theirs are discounted returns."""
MAX_ACTIONS = 8
"""Actions that a plot tells apart; the rest are drawn as one."""


def version_series(
    spec: TaskSpec, versions: Sequence[PolicyVersion], evidence: VersionEvidence
) -> dict[str, list[Series]]:
    """Make the plots of a version's report; versions: up to it, in order."""
    plots = {
        "learning_curve": learning_curve(spec, versions),
        "terms": term_differences(spec, evidence),
        "action_mix": action_mix(spec, evidence),
        "action_range": action_range(spec, evidence),
        **evidence.plots,
    }
    return {name: series for name, series in plots.items() if series}


def learning_curve(spec: TaskSpec, versions: Sequence[PolicyVersion]) -> list[Series]:
    """Each version's return against experience, and the baselines as levels: on the gate's traces, or from rows."""
    by_rows = bool(versions) and versions[-1].by_data is not None
    alike = [one for one in versions if (one.by_data is not None) == by_rows and "policy" in one.evaluation]
    evaluated = alike[-MAX_POINTS:]
    if len(evaluated) < 2:
        return []
    policy, promoted = (
        _curve(ESTIMATED if by_rows else "policy", evaluated),
        _curve("promoted", [one for one in evaluated if one.promoted]),
    )
    ends, last = (policy.x[0], policy.x[-1]), evaluated[-1].evaluation
    names = [name for name in controllers(spec) if name in last]
    return [policy, promoted, *(Series(controller_name(spec, name), ends, (last[name],) * 2) for name in names)]


def _curve(name: str, versions: Sequence[PolicyVersion]) -> Series:
    x = tuple(float(version.environment_steps) for version in versions)
    return Series(name, x, tuple(version.evaluation["policy"] for version in versions))


def term_differences(spec: TaskSpec, evidence: VersionEvidence) -> list[Series]:
    """Difference in return to each other controller, by reward term and altogether; nothing where it has no terms."""
    own = evidence.policy
    if own is None or not own.terms.shape[1]:
        return []
    labels = (*spec.reward_terms[: own.terms.shape[1]], "return")
    decisions = evidence.decisions
    told = {"serving", *(decisions.shadows if isinstance(decisions, RecordedDecisions) else ())}
    found = []
    for key, other in evidence.others.items():
        if key not in told:
            continue
        pairs = [*zip(own.terms.T, other.terms.T, strict=True), (own.returns, other.returns)]
        means, lows, highs, _ = zip(*(paired_difference(first, second) for first, second in pairs), strict=True)
        found.append(Series(controller_name(spec, key), _places(labels), means, labels, lows, highs))
    return found


def action_mix(spec: TaskSpec, evidence: VersionEvidence) -> list[Series]:
    """Share of each action (a series) in each situation (a label), in %."""
    decisions = evidence.decisions
    if not isinstance(decisions, RecordedDecisions) or not len(decisions.obs) or not isinstance(spec.actions, tuple):
        return []
    split = situations(spec.observations, decisions)
    counts = [np.bincount(decisions.actions[one.mask], minlength=len(spec.actions)) for one in split]
    table = np.array([count / one.mask.sum() * 100.0 for count, one in zip(counts, split, strict=True)])
    return _mix(spec.actions, table, tuple(one.name for one in split))


def action_range(spec: TaskSpec, evidence: VersionEvidence) -> list[Series]:
    """Each dimension of continuous actions (a series) by situation (a label): median, and where 80 % lie."""
    decisions = evidence.decisions
    if not isinstance(decisions, ContinuousDecisions) or not len(decisions.obs):
        return []
    split, count = situations(spec.observations, decisions), decisions.actions.shape[1]
    labels = tuple(one.name for one in split)
    found = []
    for place in range(min(count, MAX_DIMENSIONS)):
        levels = [np.quantile(decisions.actions[one.mask, place], (0.1, 0.5, 0.9)).tolist() for one in split]
        low, middle, high = zip(*levels, strict=True)
        found.append(Series(dimension_name(place, count), _places(labels), middle, labels, low, high))
    return found


def _places(labels: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(map(float, range(len(labels))))


def _mix(names: tuple[str, ...], table: np.ndarray, labels: tuple[str, ...]) -> list[Series]:
    """table: float64[situations, actions], in %."""
    kept = sorted(np.argsort(-table.sum(axis=0), kind="stable")[:MAX_ACTIONS])
    shares = [(names[action], table[:, action]) for action in kept]
    if len(names) > MAX_ACTIONS:
        shares.append(("other actions", np.maximum(100.0 - table[:, kept].sum(axis=1), 0.0)))
    return [Series(name, _places(labels), tuple(share.tolist()), labels) for name, share in shares]


def interval_series(
    spec: TaskSpec, current: Totals, previous: Totals | None, rows: SampledRows | None = None
) -> dict[str, list[Series]]:
    """Make the plots of an interval's report: the reward's course, and the actions of both intervals."""
    parts = [("this interval", current)]
    if previous is not None and previous.rows:
        parts.append(("the interval before", previous))
    plots = {
        "reward": _reward_course(parts),
        "action_mix": _actions_of(spec, parts),
        "action_shares": _taken(spec, rows) if rows else [],
    }
    return {name: series for name, series in plots.items() if series}


def _taken(spec: TaskSpec, rows: SampledRows) -> list[Series]:
    """How the values of continuous actions lie: of each dimension now, and before where there is but one."""
    bounds = spec.action_bounds
    if bounds is None or not rows.current:
        return []
    now, count = concat(rows.current), spec.action_count
    names = [dimension_name(place, count) for place in range(min(count, MAX_DIMENSIONS))]
    found = [Series(name, *taken_histogram(now, bounds, place)) for place, name in enumerate(names)]
    if count == 1 and rows.previous:
        found = [replace(found[0], name="this interval")]
        found.append(Series("the interval before", *taken_histogram(concat(rows.previous), bounds, 0)))
    return found


def _reward_course(parts: list[tuple[str, Totals]]) -> list[Series]:
    """Mean reward per step by window; x: hours since the interval began."""
    found = []
    for name, total in parts:
        windows = [(start, *sums) for start, sums in sorted(total.windows.items()) if sums[0]]
        for_each = -(-len(windows) // MAX_POINTS) or 1  # neighbours are joined where there are too many
        groups = [windows[at : at + for_each] for at in range(0, len(windows), for_each)]
        if len(groups) < 2:
            continue
        x = tuple((group[0][0] - total.start_ms) / 3_600_000 for group in groups)
        y = tuple(sum(one[2] for one in group) / sum(one[1] for one in group) for group in groups)
        found.append(Series(name, x, y))
    return found


def _actions_of(spec: TaskSpec, parts: list[tuple[str, Totals]]) -> list[Series]:
    if not isinstance(spec.actions, tuple) or not any(total.actions.total() for _, total in parts):
        return []
    counts = np.array([[total.actions[action] for action in range(len(spec.actions))] for _, total in parts])
    taken = np.array([[max(total.actions.total(), 1)] for _, total in parts])
    return _mix(spec.actions, 100.0 * counts / taken, tuple(name for name, _ in parts))
