"""What a version makes of one decision: how clear it is, what it goes back to, and what would have changed it."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.explain.attribution import (
    FloatArray,
    attributed,
    by_name,
    lead_over,
    log_probability,
    softmax,
    within,
)
from headrace.learners.explain.behaviour import dimension_name
from headrace.learners.explain.counterfactual import Flip, Flips, nearest_flip
from headrace.learners.explain.simulation import measure_of
from headrace.learners.explain.studied import Decision, StudiedPolicy, action_range
from headrace.schemas.grounding import direction_of
from headrace.schemas.names import slug
from headrace.schemas.records import Fact, TaskSpec

MAX_ATTRIBUTED: Final = 12
"""Observations whose attributions are told, the greatest."""
MAX_MARGINS: Final = 8
"""Other actions that the one taken is compared with, the nearest, beside the one that is asked about."""
MOVED: Final = 0.25
"""Continuous actions are others when they differ by so much of their range."""


def named(spec: TaskSpec, action: int) -> str:
    """Return an action's name, as a label can begin with it."""
    return spec.actions[action].replace(",", " ") if isinstance(spec.actions, tuple) else str(action)


def choice_facts(spec: TaskSpec, decision: Decision, by: StudiedPolicy) -> Iterator[Fact]:
    """Compute the facts of a choice among named actions."""
    policy, taken = by.policy, decision.action
    assert isinstance(policy, Policy), policy
    assert not isinstance(taken, np.ndarray), taken
    values = policy.q_values(decision.obs[None])[0].astype(np.float64)
    best = int(values.argmax())
    yield _expected(policy, values, taken)
    if best != taken:
        yield Fact("decision.best", f"{named(spec, best)}, what the version holds for best, its number", best)
    nearest = [int(one) for one in np.argsort(-values, kind="stable") if one != taken]
    yield from _margin_facts(spec, policy, values, taken, nearest, decision.rival)
    if not nearest:
        return
    rival = nearest[0] if decision.rival in {None, taken} else decision.rival
    assert rival is not None
    of = f"{measure_of(policy)} against {named(spec, rival)}"
    target = lead_over(taken, rival)
    if policy.softmax and decision.rival is None:
        of, target = "log-probability", log_probability(taken)
    wanted = decision.rival if decision.rival != best else None

    def flips(obs: NDArray[np.float32]) -> NDArray[np.bool_]:
        chosen = policy.q_values(obs).argmax(axis=1)
        return np.asarray(chosen != best if wanted is None else chosen == wanted, np.bool_)

    parts = attributed(policy, by.typical, decision.obs, target)
    yield from _attribution_facts(spec, decision.obs, by, parts, of, "")
    flip, tried = _flip(by, decision.obs, flips, parts)
    yield from _flip_facts(spec, decision.obs, flip, tried)
    if flip is not None:
        other = int(policy.q_values(flip.applied(decision.obs)[None]).argmax())
        yield Fact("decision.otherwise", f"{named(spec, other)}, what it would hold for best there, its number", other)


def _expected(policy: Policy, values: FloatArray, taken: int) -> Fact:
    if policy.softmax:
        probability = 100.0 * float(softmax(values[None])[0, taken])
        return Fact("decision.probability", "probability, with which the version draws the action", probability, "%")
    return Fact("decision.value", "value, what the version expects of it, in learning's units", float(values[taken]))


def _margin_facts(
    spec: TaskSpec, policy: Policy, values: FloatArray, taken: int, others: Sequence[int], asked: int | None
) -> Iterator[Fact]:
    """Compute the lead of the action taken over others, the nearest rival first."""
    for place, other in enumerate(others):
        if place < MAX_MARGINS or other == asked:
            label = f"{named(spec, other)}, {measure_of(policy)} of the action taken less that of this one"
            yield Fact(f"margin.{slug(named(spec, other))}", label, float(values[taken] - values[other]))


def vector_facts(spec: TaskSpec, decision: Decision, by: StudiedPolicy) -> Iterator[Fact]:
    """Compute the facts of a continuous action; what moved it, of the dimension that is farthest from its usual."""
    policy, taken = by.policy, decision.action
    assert isinstance(policy, BoxPolicy), policy
    assert isinstance(taken, np.ndarray), taken
    unit, (low, high) = action_range(policy), policy.bounds
    own, usual = policy.act(np.stack([decision.obs, by.typical.astype(np.float32)])).astype(np.float64)
    density = float(policy.log_prob(decision.obs[None], taken[None])[0])
    yield Fact("decision.density", "log-density, of the action taken by the version", density)
    for place in range(policy.actions):
        yield from _dimension_facts(place, policy.actions, taken, own, low, high, unit)
    place = int((np.abs(own - usual) / unit).argmax())
    name = dimension_name(place, policy.actions)
    target = within(place, float(low[place]), float(high[place]), float(unit[place]) / 100.0)

    def flips(obs: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray((np.abs(policy.act(obs) - own) >= MOVED * unit).any(axis=1), np.bool_)

    parts = attributed(policy, by.typical, decision.obs, target)
    yield from _attribution_facts(spec, decision.obs, by, parts, name, "%")
    flip, tried = _flip(by, decision.obs, flips, parts)
    yield from _flip_facts(spec, decision.obs, flip, tried)
    if flip is not None:
        there = policy.act(flip.applied(decision.obs)[None])[0].astype(np.float64)
        place = int((np.abs(there - own) / unit).argmax())
        label = f"{dimension_name(place, policy.actions)}, what it would hold for best there"
        yield Fact("decision.otherwise", label, float(there[place]))


def _dimension_facts(
    place: int,
    count: int,
    taken: NDArray[np.float32],
    own: FloatArray,
    low: FloatArray,
    high: FloatArray,
    unit: FloatArray,
) -> Iterator[Fact]:
    """Compute how far one dimension lies from the version's best, and from its bounds."""
    name, key = dimension_name(place, count), f"d{place + 1}"
    yield Fact(f"decision.best.{key}", f"{name}, what the version holds for best", float(own[place]))
    apart = 100.0 * abs(float(taken[place]) - own[place]) / unit[place]
    yield Fact(f"decision.apart.{key}", f"{name}, how far it was taken from the best, of its range", float(apart), "%")
    room = 100.0 * min(float(taken[place]) - low[place], high[place] - float(taken[place])) / unit[place]
    yield Fact(f"decision.room.{key}", f"{name}, how far it was taken from a bound, of its range", float(room), "%")


def _attribution_facts(
    spec: TaskSpec, obs: NDArray[np.float32], by: StudiedPolicy, parts: FloatArray, of: str, unit: str
) -> Iterator[Fact]:
    """Compute what each observation did for it, the greatest first, with its value here and its usual one."""
    total = float(parts.sum())
    label = f"{of}, what all that it saw changed in it beside a typical observation"
    yield Fact("decision.change", label, total, unit, direction=direction_of(total))
    groups = by_name(spec.observations)
    sums = {name: float(parts[[*places]].sum()) for name, places in groups.items()}
    for name in sorted(sums, key=lambda one: -abs(sums[one]))[:MAX_ATTRIBUTED]:
        key, shown, newest = slug(name), name.replace(",", " "), groups[name][-1]
        label = f"{shown}, its part in {of}"
        yield Fact(f"attribution.{key}", label, sums[name], unit, direction=direction_of(sums[name]))
        yield Fact(f"seen.{key}", f"{shown}, as it was seen", float(obs[newest]))
        yield Fact(f"typical.{key}", f"{shown}, mean of recent rows", float(by.typical[newest]))


def _flip(by: StudiedPolicy, obs: NDArray[np.float32], flips: Flips, parts: FloatArray) -> tuple[Flip | None, int]:
    return nearest_flip(flips, obs, by.spans, np.argsort(-np.abs(parts), kind="stable").tolist())


def _flip_facts(spec: TaskSpec, obs: NDArray[np.float32], flip: Flip | None, tried: int) -> Iterator[Fact]:
    """Compute the nearest counterfactual, or say that there is none."""
    if flip is None:
        label = "observations, no change of which within recent rows, alone or by pairs, gave another action"
        yield Fact("decision.firm", label, tried, "observations")
        return
    for feature, value in flip.values.items():
        key, name = slug(spec.observations[feature]), spec.observations[feature].replace(",", " ")
        yield Fact(f"counterfactual.{key}", f"{name}, the nearest value at which it would act otherwise", value)
        yield Fact(f"seen.{key}", f"{name}, as it was seen", float(obs[feature]))
    label = "distance, of the counterfactual, as a share of the range of recent rows"
    yield Fact("decision.distance", label, 100.0 * flip.distance, "%")
