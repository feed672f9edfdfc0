"""What an explanation is worth, measured without people: does it hold, does it tell what mattered, does it stay.

An explanation is a narrative of facts. What its narrator was told may be other than the truth, as in a control whose
numbers are shuffled: so each measure goes by what is true. No model judges, and nobody's satisfaction is made up.
scorecard_reader.py measures what a reader can do with an explanation, scorecard_deletion.py whether a policy goes by
what is cited.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from msgspec.structs import replace

from headrace.schemas.grounding import Placed, format_fact, placed, sentence_problems
from headrace.schemas.narration.kinds import kind_of
from headrace.schemas.narration.ranking import mattered
from headrace.schemas.records import Direction, Fact, Facts, Narrative, Sentence

NAMED: Final = ("name", "label")
"""Parts of a fact that show what it is about, and no number."""


class Held(NamedTuple):
    """How many of an explanation's numbers and claims hold."""

    holding: int
    said: int

    @property
    def share(self) -> float:
        """From 0 to 1; of nothing that is said, nothing is wrong."""
        return self.holding / self.said if self.said else 1.0


class Covered(NamedTuple):
    """recall: of the facts that mattered, those told. precision: of those told, those that mattered. From 0 to 1."""

    recall: float
    precision: float

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        total = self.recall + self.precision
        return 2.0 * self.recall * self.precision / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """truth: the facts as they are. told: as the narrator had them, under the same ids. narrative: what it made."""

    truth: Facts
    told: Facts
    narrative: Narrative

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        """Return the headline and the sentences."""
        return (self.narrative.headline, *self.narrative.sentences)

    @property
    def placed(self) -> list[Placed]:
        """Return what is shown, in the order of the text, each once."""
        return list(dict.fromkeys(one for sentence in self.sentences for one in placed(sentence)))

    def name(self, fact_id: str) -> str:
        """Return what a reader sees of a fact's name; "" of none."""
        return next((format_fact(fact, "name") for fact in self.told.facts if fact.fact_id == fact_id), "")

    @property
    def true_ids(self) -> frozenset[str]:
        """Return the facts that the narrator was told as they are."""
        truth = {fact.fact_id: _content(fact) for fact in self.truth.facts}
        return frozenset(fact.fact_id for fact in self.told.facts if truth.get(fact.fact_id) == _content(fact))


def grounding(explanation: Explanation) -> Held:
    """Count the numbers and claims that hold.

    A number holds that is shown of a fact as it is, a claim that the true fact bears out. Whatever else the check of
    reports complains of, such as a number that is written out, is one more statement that does not hold.
    """
    by_id = {fact.fact_id: fact for fact in explanation.truth.facts}
    found = [_held(sentence, by_id, explanation.true_ids) for sentence in explanation.sentences]
    return Held(sum(one.holding for one in found), sum(one.said for one in found))


def _held(sentence: Sentence, by_id: dict[str, Fact], true_ids: frozenset[str]) -> Held:
    shown = placed(sentence)
    numbers = [one.fact_id in true_ids for one in shown if one.part not in NAMED or one.fact_id not in by_id]
    claims = [
        _borne_out(fact_id, direction, by_id) and fact_id in {one.fact_id for one in shown}
        for fact_id, direction in sentence.claims.items()
    ]
    statements = numbers + claims
    wrong = statements.count(False)
    others = max(0, len(list(sentence_problems(sentence, by_id))) - wrong)
    return Held(len(statements) - wrong, len(statements) + others)


def _borne_out(fact_id: str, direction: Direction, by_id: dict[str, Fact]) -> bool:
    return fact_id in by_id and by_id[fact_id].direction == direction


def coverage(explanation: Explanation) -> Covered:
    """Compare what is told, and true, with the facts that mattered.

    Context and what is not shown to differ is no miss and no excess: a reader needs it to read the rest.
    """
    wanted = {fact.fact_id for fact in mattered(explanation.truth)}
    told = {one.fact_id for one in explanation.placed}
    by_id = {fact.fact_id: fact for fact in explanation.truth.facts}
    claimed = {one for one in told if one not in by_id or _is_content(by_id[one])}
    hits = wanted & told & explanation.true_ids
    return Covered(len(hits) / len(wanted) if wanted else 1.0, len(hits) / len(claimed) if claimed else 0.0)


def _is_content(fact: Fact) -> bool:
    return kind_of(fact.fact_id).role != "context" and fact.direction != "flat"


def stability(one: Narrative, other: Narrative) -> float:
    """Return by how much two narratives of the same facts tell alike, from 0 to 1.

    Jaccard's index of what they show and claim: shared over all.
    """
    first, second = (_statements(narrative) for narrative in (one, other))
    return len(first & second) / len(first | second) if first | second else 1.0


def _statements(narrative: Narrative) -> set[tuple[str, str]]:
    sentences = (narrative.headline, *narrative.sentences)
    shown = {(one.fact_id, "") for sentence in sentences for one in placed(sentence)}
    return shown | {claim for sentence in sentences for claim in sentence.claims.items()}


def rephrased(facts: Facts) -> tuple[Facts, ...]:
    """Return the same facts said otherwise: in the other order, and under other names."""
    labels = [f"thing {place}{_detail(fact.label)}" for place, fact in enumerate(facts.facts, 1)]
    renamed = tuple(replace(fact, label=label) for fact, label in zip(facts.facts, labels, strict=True))
    return replace(facts, facts=facts.facts[::-1]), replace(facts, facts=renamed)


def _detail(label: str) -> str:
    _, comma, detail = label.partition(",")
    return comma + detail


def shuffled(facts: Facts, seed: int) -> Facts:
    """Return the facts with each other's numbers: the control that reads as well, and is not true.

    Numbers change places among facts of one unit that alike have an interval, and alike are changes or are none; those
    that name an action have their names changed with them. So each text remains one that the check of reports lets
    through.
    """
    groups = defaultdict[tuple[str, ...], list[int]](list)
    for place, fact in enumerate(facts.facts):
        groups[_group(fact)].append(place)
    rng, found = np.random.default_rng(seed), list(facts.facts)
    for key, places in groups.items():
        # Once around by the commonest number: as few facts as can be get one that is like their own.
        order = sorted(rng.permutation(places).tolist(), key=lambda place: facts.facts[place].value)
        step = max(Counter(facts.facts[place].value for place in order).values())
        for place, source in zip(order, [*order[step:], *order[:step]], strict=True):
            found[place] = _with_numbers_of(facts.facts[source], found[place], named=bool(key[0]))
    return replace(facts, facts=tuple(found))


def _group(fact: Fact) -> tuple[str, ...]:
    """Return what is common to facts whose numbers may change places; first whether they name an action."""
    named = _ACTIONS.get(kind_of(fact.fact_id).name, "")
    return named, fact.unit, str(fact.low is None), str(fact.direction is None)


def _with_numbers_of(source: Fact, fact: Fact, *, named: bool) -> Fact:
    label = format_fact(source, "name") + _detail(fact.label) if named else fact.label
    return replace(fact, label=label, **dict(zip(_NUMBERS, _content(source), strict=True)))


_ACTIONS: Final = {
    "action in a situation": "situation",
    **dict.fromkeys(("action taken", "best action", "action otherwise", "imitation"), "decision"),
}
"""By kinds of facts that name an action: of what."""
_NUMBERS: Final = ("value", "low", "high", "direction")


def _content(fact: Fact) -> tuple[float, float | None, float | None, Direction | None]:
    return fact.value, fact.low, fact.high, fact.direction


def told_by(narrative: Narrative, fallbacks: int) -> float:
    """Return which share of the sentences that show a fact is the narrator's own, from 0 to 1.

    fallbacks: how many sentences the template wrote in its stead.
    """
    showing = sum(bool(placed(sentence)) for sentence in narrative.sentences)
    return max(0.0, 1.0 - fallbacks / showing) if showing else 0.0
