"""Facts of tasks that do not exist, of every kind and under many names: a model can be tuned before any report.

A model is told neither numbers nor names, so nothing in these is wrong of a real task.
"""

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

from headrace.learners.tuning.wordings import CHANGES
from headrace.schemas.narration.kinds import KINDS, OTHER, RIVALS, kind_of
from headrace.schemas.records import Direction, Fact, Facts

UNITS: Final[dict[str, str]] = {
    kind: unit
    for unit, kinds in {
        "version": "version/version before/tested/tested, close/judged by data/tried by canary/untested/drawn/went back"
        "/let serve by a person/overruled/version asked",
        "return": "return/return of a rival/difference in return/distance to the bound/change in earnings/earned"
        "/difference in a part of the return",
        "per step": "mean reward/mean of a part/change in reward/change in a part of the reward/reward of a version"
        "/reward of the same/reward of others/similar decision",
        "%": "explained/action in a situation/differs/commonest difference/larger step/smaller step/action/shift/move"
        "/differs in a situation/at its lowest/at its highest/distance/change in rows/version at work/probability"
        "/distance from the best/distance from a bound/distance of the counterfactual/fidelity/same action",
        "steps": "experience",
        "updates": "updates",
        "rows": "new rows/gate's rows/rows/duplicates/late rows",
        "candidates": "refusals",
        "traces": "traces",
        "comparisons": "comparisons",
        "decisions": "decisions/situation/similar decisions",
        "agents": "agents",
        "episodes": "episodes",
        "windows": "unreported",
        "versions": "versions changed",
        "messages": "rejected/rejected by rule",
    }.items()
    for kind in kinds.split("/")
}
"""By kind: the unit of its facts; those of others have none."""
_OTHER_SLOT: Final = re.compile(r"\{(?!(?:s|d|n|rival|name)\})")
PATTERNS: Final = {pattern: kind for pattern, kind in KINDS.items() if not _OTHER_SLOT.search(pattern)} | {
    "figure.{name}": OTHER
}
"""Those of KINDS with slots that are filled here."""
SIGNS: Final[dict[Direction | None, float]] = {"up": 1.0, "down": -1.0, "flat": 0.0, None: 1.0}


def invented_facts(count: int, seed: int) -> Iterator[Facts]:
    """Yield the facts of so many tasks. Each has a fact of every kind, in the directions that wordings know."""
    rng = np.random.default_rng(seed)
    for place in range(count):
        found = {fact.fact_id: fact for pattern in PATTERNS for fact in _of_pattern(pattern, rng)}
        rivals = {fact_id.rpartition("vs-")[2] for fact_id in found if fact_id.startswith("term.") and "vs-" in fact_id}
        others = [f"return.vs-{rival}" for rival in sorted(rivals) if rng.random() < 0.8]
        others += [fact_id.rpartition(".")[0] for fact_id in found if fact_id.startswith("differs.")]
        others += ["situation." + fact_id.split(".")[1] for fact_id in found if fact_id.startswith("action.s")]
        for fact_id in others:
            found.setdefault(fact_id, _fact(fact_id, _directions(kind_of(fact_id).name, rng)[0], rng))
        yield Facts(f"invented-{place}", f"v{place}", tuple(found.values()))


def _of_pattern(pattern: str, rng: np.random.Generator) -> Iterator[Fact]:
    for direction in _directions(PATTERNS[pattern].name, rng):
        yield _fact(_filled(pattern, rng), direction, rng)


def _directions(kind: str, rng: np.random.Generator) -> list[Direction | None]:
    """Return what facts of a kind may say of a change, in any order: of an id that comes again the last counts."""
    directions: list[Direction | None] = ["up", "down", "flat"]
    return [directions[place] for place in rng.permutation(3)] if kind in CHANGES else [None]


def _filled(pattern: str, rng: np.random.Generator) -> str:
    rival = str(rng.choice(sorted(RIVALS))) if rng.random() < 0.5 else f"rule{rng.integers(9)}"
    slots = {"{s}": f"s{rng.integers(1, 10)}", "{d}": f"d{rng.integers(1, 4)}", "{n}": str(rng.integers(1, 6))}
    for slot, text in {**slots, "{rival}": rival}.items():
        pattern = pattern.replace(slot, text)
    while "{name}" in pattern:
        pattern = pattern.replace("{name}", f"name{rng.integers(40)}", 1)
    return pattern


def _fact(fact_id: str, direction: Direction | None, rng: np.random.Generator) -> Fact:
    value = SIGNS[direction] * float(rng.integers(1, 99))
    low, high = (None, None) if direction is None else (value - 1.0, value + 1.0)
    if direction in {"up", "down"}:
        low, high = value - 0.5, value + 0.5
    return Fact(fact_id, f"{fact_id}, invented", value, UNITS.get(kind_of(fact_id).name, ""), low, high, direction)
