"""What a reader can do with an explanation: foretell what a policy does in states that nobody explained.

The reader is a small tree, grown on a few decisions that it was shown. With an explanation it goes by what the text
shows where the text speaks of the state, and by its tree elsewhere. What it gains is the explanation's worth to it.

Source: Doshi-Velez, Kim (2017), "Towards a Rigorous Science of Interpretable Machine Learning" (forward simulation);
Hase, Bansal (2020), "Evaluating Explainable AI: Which Algorithmic Explanations Help Users Predict Model Behavior?".
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.explain.attribution import by_name
from headrace.learners.explain.regions import Condition, holding, regions
from headrace.learners.explain.scorecard import NAMED, Explanation
from headrace.schemas.grounding import format_fact
from headrace.schemas.records import Fact, TaskSpec

Floats = NDArray[np.float64]
_SITUATION: Final = re.compile(r"situation\.s[0-9]+")
_PATH: Final = re.compile(r"path\.[0-9]+\..+")
_BOUNDED: Final = re.compile(r"(?:(?P<low>\S+) < )?(?P<name>\S+) (?P<side>[\u2264>]) (?P<bound>\S+)")
_CITING: Final = ("attribution.", "counterfactual.")
EVERYWHERE: Final = "all that it saw"


@dataclass(frozen=True, slots=True, eq=False)
class ToldRule:
    """What a text says a policy does where conditions hold. target: float64[T], the action as `targets` have it."""

    conditions: tuple[Condition[int], ...]
    target: Floats


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """M states and what the policy does in them.

    obs: float32[M, D]. targets: float64[M, T], ones and zeros of named actions, shares of their range of others.
    """

    obs: NDArray[np.float32]
    targets: Floats

    def take(self, rows: NDArray[np.int64] | slice) -> "States":
        """Return some of them."""
        return States(self.obs[rows], self.targets[rows])


def read_conditions(text: str, names: Sequence[str]) -> tuple[Condition[int], ...] | None:
    """Read what `regions.told` writes; None for what is no such text, or names another feature."""
    found: list[Condition[int]] = []
    for part in [] if text == EVERYWHERE else text.split(" and "):
        match = _BOUNDED.fullmatch(part)
        if match is None or match["name"] not in names:
            return None
        feature = names.index(match["name"])
        try:
            if match["low"] is not None:
                found.append(Condition(feature, ">", float(match["low"])))
            found.append(Condition(feature, ">" if match["side"] == ">" else "<=", float(match["bound"])))
        except ValueError:
            return None
    return tuple(found)


def cited_groups(explanation: Explanation, spec: TaskSpec) -> list[tuple[int, ...]]:
    """Return the columns of each observation that a text cites, in its order: for situations, or for what it did."""
    groups = by_name(spec.observations)
    known = groups | {spec.observations[place]: group for group in groups.values() for place in group}
    found: list[tuple[int, ...]] = []
    for one in explanation.placed:
        name = explanation.name(one.fact_id)
        if one.part in NAMED and _SITUATION.fullmatch(one.fact_id):
            conditions = read_conditions(name, spec.observations) or ()
            found += [known[spec.observations[it.of]] for it in conditions]
        elif one.fact_id.startswith(_CITING) and name in known:
            found.append(known[name])
    return list(dict.fromkeys(found))


def told_rules(explanation: Explanation, spec: TaskSpec, unit: Floats) -> list[ToldRule]:
    """Return what a text says a policy does where.

    Of a version in each situation that it describes the action it shows: of named actions the one with the greatest
    share, of others the means. Of a decision what a tree that imitates the policy comes to on the path that it shows.
    unit: float64[T], as actions are measured.
    """
    named = [one.fact_id for one in explanation.placed if one.part in NAMED]
    shown = {one.fact_id for one in explanation.placed}
    found = []
    for fact_id in [one for one in named if _SITUATION.fullmatch(one)]:
        start = f"action.{fact_id.removeprefix('situation.')}."
        actions = [fact for fact in explanation.told.facts if fact.fact_id.startswith(start) and fact.fact_id in shown]
        found.append(([fact_id], actions))
    path = [one for one in named if _PATH.fullmatch(one)]
    if path:
        ends = [fact for fact in explanation.told.facts if fact.fact_id == "path.action" and fact.fact_id in shown]
        found.append((path, ends))
    return [
        ToldRule(conditions, target)
        for places, actions in found
        for conditions in _joined([read_conditions(explanation.name(one), spec.observations) for one in places])
        for target in _target(spec, actions, unit)
    ]


def _joined(parts: Sequence[tuple[Condition[int], ...] | None]) -> Iterator[tuple[Condition[int], ...]]:
    """Yield all conditions together, where each part could be read."""
    read = [part for part in parts if part is not None]
    if len(read) == len(parts):
        yield tuple(one for part in read for one in part)


def told_example(explanation: Explanation, spec: TaskSpec, unit: Floats, obs: NDArray[np.float32]) -> States | None:
    """Return the state for which a text says what would have been done in place of a decision; None without one.

    obs: float32[D], of the decision.
    """
    shown = {one.fact_id for one in explanation.placed}
    told = [fact for fact in explanation.told.facts if fact.fact_id in shown]
    changes = {format_fact(one, "name"): one.value for one in told if one.fact_id.startswith("counterfactual.")}
    ends = _target(spec, [fact for fact in told if fact.fact_id == "decision.otherwise"], unit)
    if not changes or not changes.keys() <= set(spec.observations):
        return None
    other = obs.copy()
    other[[spec.observations.index(name) for name in changes]] = [*changes.values()]
    return next((States(other[None], target[None]) for target in ends), None)


def _target(spec: TaskSpec, actions: Sequence[Fact], unit: Floats) -> Iterator[Floats]:
    """Yield the one action that facts of actions speak of, where it can be told."""
    if isinstance(spec.actions, tuple) and actions:
        most = format_fact(max(actions, key=lambda fact: fact.value), "name")
        if most in spec.actions:
            yield np.eye(len(spec.actions))[spec.actions.index(most)]
    elif len(actions) == len(unit):
        yield np.array([fact.value for fact in actions]) / unit


def foretold(shown: States, rules: Sequence[ToldRule], obs: NDArray[np.float32]) -> Floats:
    """Return what a reader expects in states, float64[M, T]: by the rules it was told, elsewhere by what it was shown.

    shown: at least one decision. Of rules that all hold the first counts.
    """
    found = np.zeros((len(obs), shown.targets.shape[1]))
    for leaf in regions(shown.obs, shown.targets):
        found[holding(leaf.conditions, obs)] = shown.targets[leaf.mask].mean(axis=0)
    for rule in reversed(rules):
        found[holding(rule.conditions, obs)] = rule.target
    return found


def agreement(expected: Floats, truth: Floats, *, discrete: bool) -> float:
    """Return how well float64[M, T] are foretold, from 0 to 1.

    Of named actions the share that is right; of others 1 less the mean distance in shares of the range.
    """
    if discrete:
        return float((expected.argmax(axis=1) == truth.argmax(axis=1)).mean())
    return max(0.0, 1.0 - float(np.abs(expected - truth).mean()))


@dataclass(frozen=True, slots=True)
class Simulated:
    """How well a reader foretells held-out states, from 0 to 1.

    without: from the decisions that it was shown. with_it: once it has read explanations too. fidelity: by the rules of
    the text alone, where they speak; NaN where they speak of none.
    """

    without: float
    with_it: float
    fidelity: float


def simulated(
    spec: TaskSpec, shown: States, examples: Sequence[States], rules: Sequence[ToldRule], held_out: States
) -> Simulated:
    """Let a reader foretell held-out states. examples, rules: what explanations add to the decisions shown."""
    more = States(
        np.concatenate([shown.obs, *(one.obs for one in examples)]),
        np.concatenate([shown.targets, *(one.targets for one in examples)]),
    )
    right = partial(agreement, truth=held_out.targets, discrete=spec.discrete)
    without, with_it = right(foretold(shown, (), held_out.obs)), right(foretold(more, rules, held_out.obs))
    return Simulated(without, with_it, fidelity(rules, held_out, discrete=spec.discrete))


def fidelity(rules: Sequence[ToldRule], held_out: States, *, discrete: bool) -> float:
    """Return how well the told rules alone foretell the states that they speak of; NaN where they speak of none."""
    spoken = np.zeros(len(held_out.obs), bool)
    for rule in rules:
        spoken |= holding(rule.conditions, held_out.obs)
    if not spoken.any():
        return float("nan")
    some = held_out.take(np.flatnonzero(spoken))
    nothing = States(some.obs[:1], np.zeros_like(some.targets[:1]))
    return agreement(foretold(nothing, rules, some.obs), some.targets, discrete=discrete)
