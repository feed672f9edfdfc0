"""What a language model answered, sentence by sentence: a grounded Sentence, or what is wrong with it."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from msgspec import Struct

from headrace.schemas.grounding import says, sentence_problems
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.kinds import kind_of, other_of
from headrace.schemas.narration.question import SENTENCES, Stance, stance_of
from headrace.schemas.narration.wording import wording_problems
from headrace.schemas.records import Fact, Facts, Sentence

MOST_CHARACTERS: Final = 400
"""Of a sentence, placeholders included."""
OWN: Final = {"": "", "value": "@value", "size": "@size", "name": "@name"}
"""By what stands between braces: the part of the cited fact that is put there."""
_BRACES: Final = re.compile(r"\{([^{}]{0,80})\}")


class AnswerSentence(Struct, frozen=True, forbid_unknown_fields=True):
    """One sentence as the model answers. fact: an alias. text: with braces, as INSTRUCTIONS have them."""

    fact: str
    stance: Stance
    text: str


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What the model answers."""

    sentences: tuple[AnswerSentence, ...]


Reason = Literal["fact", "repeated", "stance", "length", "braces", "number", "wording", "grounding"]
"""In a word, why a sentence is refused: what metrics count by."""


@dataclass(frozen=True, slots=True)
class Read:
    """One sentence of an answer. fact_id: what it is on; None where that is no fact. sentence: None if refused.

    reasons: in a word, of each complaint.
    """

    fact_id: str | None
    sentence: Sentence | None
    complaints: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()


def read(answer: Answer, facts: Facts) -> list[Read]:
    """Return each sentence of an answer, grounded or refused; of what is over the limit nothing."""
    aliases, by_id = Aliases(facts), {fact.fact_id: fact for fact in facts.facts}
    found, told = list[Read](), set[str]()
    for one in answer.sentences[:SENTENCES]:
        fact = by_id.get(aliases.fact_ids.get(one.fact, ""))
        if fact is None:
            found.append(_refused(None, [("fact", "fact is no id of the facts")]))
        elif fact.fact_id in told:
            complaint = f"a second sentence on {one.fact}; one is allowed"
            found.append(_refused(fact, [("repeated", complaint)]))
        else:
            found.append(_read(one, fact, by_id))
            told |= {fact.fact_id} if found[-1].sentence else set()
    return found


Complaints = list[tuple[Reason, str]]


def _refused(fact: Fact | None, complaints: Complaints) -> Read:
    reasons, texts = zip(*dict.fromkeys(complaints), strict=True)
    return Read(fact.fact_id if fact else None, None, texts, tuple(dict.fromkeys(reasons)))


def _read(one: AnswerSentence, fact: Fact, by_id: dict[str, Fact]) -> Read:
    if len(one.text) > MOST_CHARACTERS:
        return _refused(fact, [("length", f"text has {len(one.text)} characters; {MOST_CHARACTERS} are allowed")])
    complaints: Complaints = []
    if one.stance != stance_of(fact):
        complaints.append(("stance", f"stance is {one.stance}; that of {one.fact} is {stance_of(fact)}"))
    text, unknown = _placed(one.text.strip(), fact, by_id)
    complaints += [("braces", complaint) for complaint in unknown]
    shown = len(re.findall(rf"\{{{re.escape(fact.fact_id)}(?:@value|@size)?\}}", text))
    if not shown:
        complaints.append(("number", "text does not show the fact's number: write {} where it belongs"))
    elif shown > 1:
        complaints.append(("number", f"text shows the fact's number {shown} times: write it once"))
    if text.count(f"{{{fact.fact_id}@name}}") > 1:
        complaints.append(("braces", "text has {name} more than once"))
    if "@size}" in text and not says(text, fact.direction, merit=fact.better != "lower"):
        complaints.append(("number", "{size} hides the sign, and no word says it: write {}"))
    sentence = Sentence(text, {} if fact.direction is None else {fact.fact_id: fact.direction})
    complaints += [("wording", complaint) for complaint in wording_problems(text, kind_of(fact.fact_id))]
    complaints += [("grounding", complaint) for complaint in sentence_problems(sentence, by_id)]
    return _refused(fact, complaints) if complaints else Read(fact.fact_id, sentence)


def _placed(text: str, fact: Fact, by_id: dict[str, Fact]) -> tuple[str, list[str]]:
    """Return the text with grounding's placeholders in place of the model's, and what is wrong with those.

    No other fact's number may be shown: how two numbers belong together is more than either of them says.
    """
    unknown = list[str]()
    own = {marker: fact.fact_id + part for marker, part in OWN.items()}
    other = other_of(fact.fact_id)
    if other in by_id:
        own["other"] = f"{other}@name"

    def replacement(match: re.Match[str]) -> str:
        inside = match.group(1)
        if inside in own:
            return f"{{{own[inside]}}}"
        unknown.append(f"in braces stands what is none of {', '.join(f'{{{marker}}}' for marker in own)}")
        return ""

    return _BRACES.sub(replacement, text), unknown
