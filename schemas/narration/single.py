"""What a small language model is asked: one sentence on one fact, in fewer than a hundred tokens.

A small model can't use `question()`, whose thousands of tokens it takes half a minute to read. So it gets no number at
all, only what kind of fact it is and which way it goes, and it answers with words around placeholders. What a schema
would fix anyway, the fact and its stance, code fills in: forced tokens cost time and say nothing. The same prompt has
the same answer, whatever the numbers are.
"""

import re
from itertools import permutations
from typing import Any, Final

from msgspec import Struct

from headrace.schemas.grounding import merit_of
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.answer import AnswerSentence
from headrace.schemas.narration.kinds import kind_of, other_of, parsed
from headrace.schemas.narration.question import UNITS, stance_of
from headrace.schemas.records import Fact

INSTRUCTIONS: Final = """\
Report the fact in one short plain English sentence. Copy each mark in braces once: names and numbers go there. \
Give no reasons, no advice, no other numbers. For example: It is better than {name} by {}.\
"""
SAYS: Final = {"up": "rose", "down": "fell", "flat": "is not shown to differ", "level": "is"}
"""By stance: what the sentence says of the fact."""
MERITS: Final = {"up": "is better", "down": "is worse"}
"""By merit: what it says before that."""
_WORDS: Final = "(,? [a-z-]{1,16}){0,9}"
"""Bounded, words too, so that an answer is. No escape may stand here: llama.cpp dies of a grammar with `\\.` in it."""


class Said(Struct, frozen=True, forbid_unknown_fields=True):
    """What the model answers."""

    text: str


def prompt(fact: Fact, aliases: Aliases) -> str:
    """Return what is asked after INSTRUCTIONS; no number, and nothing that whoever wrote the task controls."""
    kind, stance = kind_of(fact.fact_id), stance_of(fact)
    meaning = re.split("[:;]", kind.meaning)[0]
    verdict = MERITS.get(merit_of(fact) or "", "")
    says = f"{verdict}, {SAYS[stance]}" if verdict else SAYS[stance]
    unit = f"unit: {fact.unit}\n" if fact.unit in UNITS else ""
    marks = ", ".join(f"{{{mark}}}" for mark in placeholders(fact, aliases))
    return f"id: {aliases.of[fact.fact_id]}\nfact: {kind.name}, {meaning}\nit: {says}\n{unit}marks: {marks}"


def placeholders(fact: Fact, aliases: Aliases) -> tuple[str, ...]:
    """Return what stands between the braces of the sentence, each once: other and name where there are such, a number.

    Of what fell the number has no sign: "fell by -2" would say that it rose.
    """
    other = ("other",) if other_of(fact.fact_id) in aliases.of else ()
    name = ("name",) if len(parsed(fact.fact_id)[1]) > 1 else ()
    return (*other, *name, "size" if fact.direction == "down" else "")


def schema(fact: Fact, aliases: Aliases) -> dict[str, Any]:
    """Return the strict JSON Schema of the answer: words, and each placeholder once, in any order."""
    orders = permutations(f",? [{{]{mark}[}}]" for mark in placeholders(fact, aliases))
    bodies = "|".join(_WORDS.join(order) for order in orders)
    text = {"type": "string", "pattern": f"^[A-Z][a-z]{{0,16}}{_WORDS}({bodies}){_WORDS}[.]$"}
    return {"type": "object", "properties": {"text": text}, "required": ["text"], "additionalProperties": False}


def answered(said: Said, fact: Fact, aliases: Aliases) -> AnswerSentence:
    """Return the answer as `answer.read` takes it."""
    return AnswerSentence(aliases.of[fact.fact_id], stance_of(fact), said.text)
