"""A narrative of a model's sentences and the template's.

The headline is the template's. The model's sentences stand in its order, joined by connectives that code chooses. After
them the template speaks of the facts that mattered and that no sentence tells of (of a decision, which is one short
story, of all facts), and adds its caveats, which place no fact. Each fact is told of once: the template is given only
those that are left.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from headrace.learners.explain.template import TemplateNarrator
from headrace.schemas.grounding import placed
from headrace.schemas.narration.answer import Read
from headrace.schemas.narration.kinds import kind_of
from headrace.schemas.narration.question import subject_of
from headrace.schemas.narration.ranking import mattered
from headrace.schemas.records import Facts, Narrative, Sentence

CONTRAST: Final = "By contrast, "


def composed(facts: Facts, read: Sequence[Read], name: str) -> tuple[Narrative, int]:
    """Return the narrative, and how many of its sentences tell what the model should have. name: of the model."""
    whole = TemplateNarrator().tell(facts)
    told = [one for one in read if one.sentence is not None]
    if not told:
        return whole, len(whole.sentences)
    added = _added(facts, whole, {one.fact_id for one in told if one.fact_id})
    caveats = [one for one in whole.sentences if not placed(one)]
    speakers = f"{name}, template" if added or caveats else name
    return Narrative(speakers, whole.headline, (*connected(told), *added, *caveats)), len(added)


def _added(facts: Facts, whole: Narrative, done: set[str]) -> list[Sentence]:
    """Return the template's sentences on what is wanted and not told yet. whole: what it tells of all facts.

    Its sentences on lists of facts are of those that are left; one that needs what is told is of all facts.
    """
    left = [one for one in facts.facts if one.fact_id not in done or kind_of(one.fact_id).role == "context"]
    wanted = facts.facts if subject_of(facts) == "decision" else mattered(facts)
    missing = {fact.fact_id for fact in wanted} - done - _told_of(whole.headline)
    found = list[Sentence]()
    for one in (*TemplateNarrator().tell(replace(facts, facts=tuple(left))).sentences, *whole.sentences):
        shown = _told_of(one)
        if shown & missing and not shown & done:
            found.append(one)
            missing -= shown
            done = done | shown
    return found


def _told_of(sentence: Sentence) -> set[str]:
    return {one.fact_id for one in placed(sentence)}


def connected(told: Sequence[Read]) -> list[Sentence]:
    """Return the sentences; one that says the opposite of the one before it, of a fact of the same kind, says so."""
    found = list[Sentence]()
    before: tuple[str, str] | None = None
    for one in told:
        assert one.sentence is not None
        assert one.fact_id is not None
        now = kind_of(one.fact_id).name, one.sentence.claims.get(one.fact_id, "")
        opposite = before is not None and before[0] == now[0] and {before[1], now[1]} == {"up", "down"}
        found.append(_joined(one.sentence) if opposite else one.sentence)
        before = now
    return found


def _joined(sentence: Sentence) -> Sentence:
    return replace(sentence, text=CONTRAST + sentence.text[:1].lower() + sentence.text[1:])
