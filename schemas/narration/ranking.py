"""Which facts mattered.

A fact matters the more, the larger its effect against what it is measured by. Effects of different units compare as
numbers from 0 to 1:

- a difference with an interval: |value| / (|value| + half the interval's width). It is above a half exactly where the
  difference is greater than its own uncertainty, and does not depend on the unit;
- a difference without one whose direction is known: in per cent |value| / (|value| + 100), else a half;
- a share: in per cent its hundredth; a count, over the count that it is part of (a half where that is not known);
- an attribution: its part of the sum of all attributions' sizes.

First comes what the report is about (`verdict`), then differences in what is optimised (`whole`), then in its parts,
then shares, then context. A difference that is not shown to be one is told of last: nothing is lost, but "no change"
never stands before a change.
"""

from headrace.schemas.narration.kinds import Kind, Role, kind_of
from headrace.schemas.records import Fact, Facts

ORDER: dict[Role, int] = {"verdict": 0, "whole": 1, "part": 2, "share": 3, "context": 4}
FLAT = 5
LEAST_EFFECT = 0.05
"""A smaller effect did not matter: less than a twentieth of the whole."""
MOST = 8
"""Facts that can be said to have mattered: more than a reader keeps in mind, and as many as one report has room for."""


def ranked(facts: Facts) -> tuple[Fact, ...]:
    """Return all facts, those that mattered most first; equal ones in the facts' order."""
    sizes = effects(facts)
    return tuple(sorted(facts.facts, key=lambda fact: (_tier(fact), -sizes[fact.fact_id])))


def mattered(facts: Facts, most: int = MOST) -> tuple[Fact, ...]:
    """Return the first of the ranked facts that had an effect; neither context nor what is not shown to differ."""
    sizes = effects(facts)
    found = [one for one in ranked(facts) if _tier(one) < ORDER["context"] and sizes[one.fact_id] >= LEAST_EFFECT]
    return tuple(found[:most])


def effects(facts: Facts) -> dict[str, float]:
    """Return each fact's effect by its id, from 0 to 1, as the module says."""
    by_id = {fact.fact_id: fact for fact in facts.facts}
    attributed = sum(abs(fact.value) for fact in facts.facts if kind_of(fact.fact_id).name == "attribution")
    return {fact.fact_id: _effect(fact, kind_of(fact.fact_id), by_id, attributed) for fact in facts.facts}


def _tier(fact: Fact) -> int:
    return FLAT if fact.direction == "flat" else ORDER[kind_of(fact.fact_id).role]


def _effect(fact: Fact, kind: Kind, by_id: dict[str, Fact], attributed: float) -> float:
    size = abs(fact.value)
    if kind.role == "verdict":
        return 1.0
    if kind.name == "attribution":
        return size / attributed if attributed else 0.0
    if kind.of:
        total = by_id[kind.of].value if kind.of in by_id else 0.0
        return min(1.0, size / total) if total > 0.0 else 0.5 * (size > 0.0)
    if fact.direction is not None:
        return _difference(fact, size)
    if fact.unit == "%":
        return min(1.0, size / 100.0)
    return size / (size + 1.0) if kind.role == "part" else 0.0  # a count of what should not be: one is a half


def _difference(fact: Fact, size: float) -> float:
    if not size:
        return 0.0
    if fact.low is not None and fact.high is not None:
        return size / (size + (fact.high - fact.low) / 2.0)
    return size / (size + 100.0) if fact.unit == "%" else 0.5
