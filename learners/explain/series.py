"""The series of a report's plots, by plot: what `headrace.pipelines.report.plots` draws."""

from collections.abc import Sequence

import numpy as np

from headrace.learners.explain.evidence import VersionEvidence
from headrace.learners.explain.facts import controller_name, controllers, split_by_situation
from headrace.learners.explain.interval import Totals
from headrace.learners.judge.statistics import paired_difference
from headrace.schemas.records import PolicyVersion, Series, TaskSpec

MAX_POINTS = 200
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
        **evidence.plots,
    }
    return {name: series for name, series in plots.items() if series}


def learning_curve(spec: TaskSpec, versions: Sequence[PolicyVersion]) -> list[Series]:
    """The return of each version on the gate's traces against experience, and the baselines as levels."""
    evaluated = [version for version in versions if "policy" in version.evaluation][-MAX_POINTS:]
    if len(evaluated) < 2:
        return []
    x = tuple(float(version.environment_steps) for version in evaluated)
    curve = [Series("policy", x, tuple(version.evaluation["policy"] for version in evaluated))]
    promoted = [version for version in evaluated if version.promoted]
    curve.append(
        Series(
            "promoted",
            tuple(float(version.environment_steps) for version in promoted),
            tuple(version.evaluation["policy"] for version in promoted),
        )
    )
    last = evaluated[-1].evaluation
    names = [name for name in controllers(spec) if name in last]
    return curve + [Series(controller_name(spec, name), (x[0], x[-1]), (last[name],) * 2) for name in names]


def term_differences(spec: TaskSpec, evidence: VersionEvidence) -> list[Series]:
    """Difference in return to each other controller, by reward term and altogether, with its interval."""
    if evidence.policy is None:
        return []
    own = evidence.policy
    labels = (*spec.reward_terms[: own.terms.shape[1]], "return")
    others = {"serving": evidence.previous} if evidence.previous else {}
    shadows = evidence.decisions.shadows if evidence.decisions else ()
    others |= {key: evidence.baselines[key] for key in shadows if key in evidence.baselines}
    found = []
    for key, other in others.items():
        pairs = [*zip(own.terms.T, other.terms.T, strict=True), (own.returns, other.returns)]
        intervals = [paired_difference(first, second) for first, second in pairs]
        found.append(
            Series(
                controller_name(spec, key),
                tuple(map(float, range(len(labels)))),
                tuple(interval.mean for interval in intervals),
                labels,
                tuple(interval.low for interval in intervals),
                tuple(interval.high for interval in intervals),
            )
        )
    return found


def action_mix(spec: TaskSpec, evidence: VersionEvidence) -> list[Series]:
    """Share of each action (a series) in each situation (a label), in %."""
    decisions = evidence.decisions
    if decisions is None or not len(decisions.obs) or not isinstance(spec.actions, tuple):
        return []
    split = split_by_situation(spec, decisions)
    table = np.array(
        [
            np.bincount(decisions.actions[one.mask], minlength=len(spec.actions)) / one.mask.sum() * 100.0
            for one in split
        ]
    )
    return _mix(spec.actions, table, tuple(one.name for one in split))


def _mix(names: tuple[str, ...], table: np.ndarray, labels: tuple[str, ...]) -> list[Series]:
    """table: float64[situations, actions], in %."""
    x = tuple(map(float, range(len(labels))))
    kept = sorted(np.argsort(-table.sum(axis=0), kind="stable")[:MAX_ACTIONS])
    found = [Series(names[action], x, tuple(map(float, table[:, action])), labels) for action in kept]
    rest = 100.0 - table[:, kept].sum(axis=1)
    if len(names) > MAX_ACTIONS:
        found.append(Series("other actions", x, tuple(map(float, np.maximum(rest, 0.0))), labels))
    return found


def interval_series(spec: TaskSpec, current: Totals, previous: Totals | None) -> dict[str, list[Series]]:
    """Make the plots of an interval's report: the reward's course, and the actions of both intervals."""
    parts = [("this interval", current)]
    if previous is not None and previous.rows:
        parts.append(("the interval before", previous))
    plots = {"reward": _reward_course(parts), "action_mix": _actions_of(spec, parts)}
    return {name: series for name, series in plots.items() if series}


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
    table = np.array(
        [
            [100.0 * total.actions[action] / max(total.actions.total(), 1) for action in range(len(spec.actions))]
            for _, total in parts
        ]
    )
    return _mix(spec.actions, table, tuple(name for name, _ in parts))
