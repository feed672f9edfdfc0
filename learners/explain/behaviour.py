"""The facts of what a policy does, and when: actions by situation, and against what would be done in its place."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from headrace.learners.explain.evidence import (
    ContinuousDecisions,
    RecordedDecisions,
    Situation,
    controller_name,
    situations,
)
from headrace.learners.explain.regions import Region, explained
from headrace.schemas.names import slug
from headrace.schemas.records import Fact, TaskSpec

MAX_ACTIONS = 6
"""Actions, the most frequent overall, that every situation's facts tell of beside its own commonest one."""
MAX_DIMENSIONS = 4
"""Dimensions of continuous actions that are told of."""
AT_BOUND = 0.001
"""An action lies at a bound when it is so near, in shares of its range."""


def behaviour_facts(spec: TaskSpec, decisions: RecordedDecisions | ContinuousDecisions) -> Iterator[Fact]:
    """Compute what a version does by situation, how clearly, and how it differs from the rules and the one before."""
    split = situations(spec.observations, decisions)
    yield Fact("decisions.count", "decisions looked at", len(decisions.obs), "decisions")
    for one in split:
        yield Fact(f"situation.{one.key}", f"{one.name}, decisions there", int(one.mask.sum()), "decisions")
    if isinstance(decisions, ContinuousDecisions):
        yield from _vector_facts(decisions, split)
        yield from _bound_facts(decisions)
        yield from _step_facts(decisions)
        return
    yield from _action_facts(spec, decisions, split)
    yield from _margin_facts(decisions, split)
    yield from _difference_facts(spec, decisions, split)


def percent(mask: NDArray[np.bool_]) -> float:
    """Return the share of true entries in %; of none, 0."""
    return 100.0 * float(mask.mean()) if len(mask) else 0.0


def dimension_name(place: int, count: int) -> str:
    """Return what text calls a dimension of continuous actions, which have no names."""
    return "the action" if count == 1 else f"action {place + 1}"


def margins(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best action's value minus the second best's: float64[M] of float64[M, A]."""
    assert values.ndim == 2, values.shape
    if values.shape[1] < 2:
        return np.zeros(len(values))
    top = np.partition(values, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0], np.float64)


def _action_facts(spec: TaskSpec, decisions: RecordedDecisions, split: list[Situation]) -> Iterator[Fact]:
    """How often each action is taken, by situation, in % of the situation's decisions."""
    names = spec.actions if isinstance(spec.actions, tuple) else ()
    if len(names) != decisions.values.shape[1]:
        return
    actions = decisions.actions
    frequent = _most_frequent(actions, len(names))[:MAX_ACTIONS]
    foretold = np.zeros(len(actions), bool)
    for situation in split:
        commonest = _most_frequent(actions[situation.mask], len(names))[0]
        foretold |= situation.mask & (actions == commonest)
        # The commonest comes first, so that it is the one kept when another has the same slug.
        for action in (commonest, *sorted({*frequent} - {commonest})):
            label = f"{names[action]}, share of decisions where {situation.name}"
            fact_id = f"action.{situation.key}.{slug(names[action])}"
            yield Fact(fact_id, label, percent(actions[situation.mask] == action), "%")
    if len(split) > 1:
        label = "these situations, decisions that are the commonest one of their situation"
        yield Fact("situations.explained", label, percent(foretold), "%")


def _most_frequent(actions: NDArray[np.int64], count: int) -> list[int]:
    """Return the actions 0 to count, the most frequent first."""
    return [int(action) for action in np.argsort(-np.bincount(actions, minlength=count), kind="stable")]


def _margin_facts(decisions: RecordedDecisions, split: list[Situation]) -> Iterator[Fact]:
    margin = margins(decisions.values)
    for situation in split:
        label = f"{situation.name}, {decisions.measure} of the best action minus the second best's"
        yield Fact(f"margin.{situation.key}", label, float(margin[situation.mask].mean()))


def _difference_facts(spec: TaskSpec, decisions: RecordedDecisions, split: list[Situation]) -> Iterator[Fact]:
    """Where the policy decides otherwise than the version before and the rules that it could be replaced by."""
    actions = decisions.actions
    for key, shadow in decisions.shadows.items():
        name, part = controller_name(spec, key), slug(key)
        yield Fact(f"differs.{part}", f"{name}, decisions in which it would differ", percent(actions != shadow), "%")
        yield from _switch_facts(spec, part, actions, shadow)
        for situation in split:
            label = f"{situation.name}, decisions in which {name} would differ"
            value = percent((actions != shadow)[situation.mask])
            yield Fact(f"differs.{part}.{situation.key}", label, value, "%")
        if decisions.order:
            size = np.array(decisions.order)
            for word, mask in (("larger", size[actions] > size[shadow]), ("smaller", size[actions] < size[shadow])):
                label = f"{word} step here, than {name} would take, share of all decisions"
                yield Fact(f"differs.{part}.{word}", label, percent(mask), "%")


def _switch_facts(spec: TaskSpec, part: str, actions: NDArray[np.int64], shadow: NDArray[np.int64]) -> Iterator[Fact]:
    """The commonest way in which it decides otherwise."""
    other = actions != shadow
    if not isinstance(spec.actions, tuple) or not other.any():
        return
    pairs, counts = np.unique(np.stack([actions[other], shadow[other]], axis=1), axis=0, return_counts=True)
    mine, theirs = (spec.actions[place] for place in pairs[counts.argmax()])
    label = f"\u201c{mine}\u201d in place of \u201c{theirs}\u201d, the commonest difference, share of all decisions"
    yield Fact(f"differs.{part}.switch", label, 100.0 * float(counts.max()) / len(actions), "%")


def _vector_facts(decisions: ContinuousDecisions, split: list[Situation]) -> Iterator[Fact]:
    """The mean of each dimension, by situation."""
    count = decisions.actions.shape[1]
    for situation in split:
        for place in range(min(count, MAX_DIMENSIONS)):
            label = f"{dimension_name(place, count)}, mean where {situation.name}"
            value = float(decisions.actions[situation.mask, place].mean())
            yield Fact(f"action.{situation.key}.d{place + 1}", label, value)
    if len(split) > 1:
        share = explained([Region((), one.mask) for one in split], decisions.targets)
        yield Fact("situations.explained", "these situations, part of the actions' variance", 100.0 * share, "%")


def _bound_facts(decisions: ContinuousDecisions) -> Iterator[Fact]:
    """How often the action is as low or as high as it can be."""
    count = decisions.actions.shape[1]
    for place in range(min(count, MAX_DIMENSIONS)):
        name = dimension_name(place, count)
        shares = at_bounds(decisions.actions[:, place], decisions.low[place], decisions.high[place])
        for side, share in zip(("lowest", "highest"), shares, strict=True):
            if share is not None:
                yield Fact(f"saturation.d{place + 1}.{side}", f"{name}, decisions at its {side} value", share, "%")


def at_bounds(actions: NDArray[np.float64], low: float, high: float) -> tuple[float | None, float | None]:
    """Return which share of actions, in %, lies at the lower and at the upper bound; None where there is none."""
    near = AT_BOUND * (high - low) if np.isfinite(high - low) else 0.0
    return (
        percent(actions <= low + near) if np.isfinite(low) else None,
        percent(actions >= high - near) if np.isfinite(high) else None,
    )


def _step_facts(decisions: ContinuousDecisions) -> Iterator[Fact]:
    """How far it moves from one step to the next, and from what the version before would do: in % of the range."""
    count = decisions.actions.shape[1]
    moves = 100.0 * np.abs(decisions.following - decisions.actions) / decisions.range
    for place in range(min(count, MAX_DIMENSIONS)):
        label = f"{dimension_name(place, count)}, mean move from one step to the next, of its range"
        yield Fact(f"smoothness.d{place + 1}", label, float(moves[:, place].mean()), "%")
    if decisions.before is not None:
        apart = 100.0 * np.abs(decisions.before - decisions.actions) / decisions.range
        label = "the version before, mean distance of its action, of the range"
        yield Fact("apart.serving", label, float(apart.mean()), "%")
