"""How good a model's sentences are, on facts that it was not tuned on; and whether one model is better than another."""

import math
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from headrace.learners.tuning.right_kind import kind_problems
from headrace.schemas.grounding import says
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.answer import Answer, read
from headrace.schemas.narration.kinds import kind_of
from headrace.schemas.narration.single import Said, answered
from headrace.schemas.records import Fact, Facts

_CONNECTIVE: Final = re.compile(
    r"(however|but|and|also|yet|still|moreover|besides|meanwhile|by contrast|in contrast|then|while|though)\b",
    re.IGNORECASE,
)
"""How a sentence begins that is joined to another; code alone does that."""


class Outcome(NamedTuple):
    """One sentence. text: as the schema had it. stance: of what was written without a schema.

    milliseconds: from asking to the answer by the schema; cpu_milliseconds: of one core in that time.
    """

    text: str
    grounded: bool
    right_kind: bool
    connective: bool
    stance: bool
    milliseconds: float
    cpu_milliseconds: float

    @property
    def right(self) -> bool:
        """Whether a reader may see it, and it says what it should."""
        return self.grounded and self.right_kind and not self.connective


def judged(reply: str, free: str, fact: Fact, facts: Facts, milliseconds: float, cpu_milliseconds: float) -> Outcome:
    """Return what an answer by the schema, and one without, are worth."""
    text, aliases = said(reply), Aliases(facts)
    found = read(Answer((answered(Said(text), fact, aliases),)), facts)[0]
    return Outcome(
        text,
        found.sentence is not None,
        not kind_problems(text, kind_of(fact.fact_id).name),
        bool(_CONNECTIVE.match(text)),
        stance_right(said(free), fact),
        milliseconds,
        cpu_milliseconds,
    )


def said(reply: str) -> str:
    """Return the text of an answer; of one that is no JSON, all of it."""
    try:
        return msgspec.json.decode(reply, type=Said).text
    except msgspec.MsgspecError:
        return reply


def stance_right(text: str, fact: Fact) -> bool:
    """Whether words say the fact's direction and no other; of a level, none; of what is flat, that it is not shown."""
    told = {direction for direction in ("up", "down") if says(text, direction)}
    if fact.direction == "flat":
        return bool(re.search(r"\b(not|no)\b", text)) or (not told and says(text, "flat"))
    return told == ({fact.direction} if fact.direction else set())


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return shares from 0 to 1, counts and times of a model's sentences."""
    share = {name: _share([getattr(one, name) for one in outcomes]) for name in ("right", "grounded", "right_kind")}
    times = {name: [getattr(one, name) for one in outcomes] for name in ("milliseconds", "cpu_milliseconds")}
    return {
        "sentences": len(outcomes),
        **share,
        "stance_without_schema": _share([one.stance for one in outcomes]),
        "connective_faults": sum(one.connective for one in outcomes),
        "distinct": len({one.text for one in outcomes}),
        **{f"{name}_p{at}": round(float(np.percentile(of, at)), 1) for name, of in times.items() for at in (50, 95)},
    }


def _share(holds: Sequence[bool]) -> float:
    return round(sum(holds) / max(1, len(holds)), 4)


def why_not_better(new: Sequence[Outcome], old: Sequence[Outcome], level: float) -> str:
    """Say why one model is not better than another on the same facts; empty where it is.

    level: the probability that one is called better that is as good.

    Better is: as many sentences are grounded, and more are right, by McNemar's exact test of the facts on which the two
    differ (McNemar 1947), one-sided.
    """
    assert len(new) == len(old), (len(new), len(old))
    grounded = sum(one.grounded for one in new), sum(one.grounded for one in old)
    if grounded[0] < grounded[1]:
        return f"{grounded[0]} of its {len(new)} sentences are grounded, and {grounded[1]} of those of what is promoted"
    gained = sum(one.right > other.right for one, other in zip(new, old, strict=True))
    lost = sum(one.right < other.right for one, other in zip(new, old, strict=True))
    p = sign_test(gained, lost)
    if p > level:
        told = f"it says {gained} facts rightly that what is promoted does not, and the other way {lost}"
        return f"{told} (p = {p:.2g}, and {level:.2g} is asked)"
    return ""


def sign_test(gained: int, lost: int) -> float:
    """Return the probability of as many gains or more where either is as likely."""
    count = gained + lost
    return sum(math.comb(count, more) for more in range(gained, count + 1)) / 2.0**count
