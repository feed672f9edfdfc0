"""What the template says of outcomes: first of all, how the task is done, in numbers that people know it by."""

from collections.abc import Iterator
from typing import Final

from headrace.learners.explain.phrases import Known, listed
from headrace.schemas.grounding import format_fact, merit_of, placed
from headrace.schemas.records import Direction, Fact, Sentence

OUTCOME: Final = "outcome."
IN_HEADLINE: Final = 2
"""Outcomes that a headline names."""
IN_SENTENCE: Final = 3
"""Outcomes that a comparison names: their ids are long, and a sentence's length is bounded."""
_VERDICTS: Final[dict[Direction, str]] = {
    "up": "Against RIVAL it is better in",
    "down": "Against RIVAL it is worse in",
    "flat": "Against RIVAL it is not shown to differ in",
}
_COURSES: Final[dict[Direction, str]] = {
    "up": "Better than in the interval before:",
    "down": "Worse than in the interval before:",
    "flat": "Not shown to have changed against the interval before:",
}


def levels(facts: Known) -> list[Fact]:
    """Return the facts of the outcomes themselves, in the task's order."""
    return [fact for key, fact in facts.items() if key.startswith(OUTCOME) and key.count(".") == 1]


def on_outcome(sentence: Sentence) -> bool:
    """Whether a sentence tells an outcome itself: what a table can tell as well."""
    first = next(iter(placed(sentence)), None)
    return not sentence.claims and first is not None and first.fact_id.startswith(OUTCOME)


def in_headline(facts: Known, rival: str | None = None) -> str:
    """Return the first outcomes, for a headline; rival: the id's end of whom they are told beside. "" without any."""
    return _beside(facts, levels(facts)[:IN_HEADLINE], rival)


def against_verdict(facts: Known, rival: str, verdict: Direction) -> str:
    """Return a headline's outcomes, those first whose numbers go the other way than its verdict; "" where none does."""
    other = {"up": "down", "down": "up"}.get(verdict)
    named = levels(facts)[:IN_HEADLINE]
    contrary = [fact for fact in named if other and _stands(facts, fact, rival) == other]
    rest = _beside(facts, [fact for fact in named if fact not in contrary], rival)
    return _beside(facts, contrary, rival) + (f"; beside that, {rest}" if rest else "") if contrary else ""


def _stands(facts: Known, fact: Fact, rival: str) -> Direction | None:
    """Say whether it reads as better (up) or worse (down) than the rival's: by its number, shown to differ or not."""
    theirs = facts.get(f"{fact.fact_id}.{rival}")
    if theirs is None or fact.better is None:
        return None
    if format_fact(fact, "value") == format_fact(theirs, "value"):
        return "flat"
    return "up" if (fact.value < theirs.value) == (fact.better == "lower") else "down"


def _beside(facts: Known, found: list[Fact], rival: str | None) -> str:
    """Return outcomes with their names, each beside that of the rival."""
    name = "{version.previous}: " if rival == "serving" and "version.previous" in facts else ""
    others = [
        f" ({name}{{{fact.fact_id}.{rival}@value}})" if f"{fact.fact_id}.{rival}" in facts else "" for fact in found
    ]
    items = (f"{{{fact.fact_id}@name}} {{{fact.fact_id}@value}}" for fact in found)
    return ", ".join(item + other for item, other in zip(items, others, strict=True))


def version_outcomes(facts: Known) -> Iterator[Sentence]:
    """Each outcome of a version beside the one before it and the baseline that people know, and which are better."""
    if "traces.count" not in facts:
        return
    for fact in levels(facts):
        rivals = outcome_rivals(facts, fact)
        others = [f"{rival_name(one, facts)}: {{{fact.fact_id}.{one}@value}}" for one in rivals]
        beside = f" ({', '.join(others)})" if others else ""
        yield Sentence(f"{{{fact.fact_id}@name}}: {{{fact.fact_id}@value}}{beside}.")
    first = next(iter(outcome_rivals(facts)), None)
    if first is not None:
        words = {key: text.replace("RIVAL", rival_name(first, facts)) for key, text in _VERDICTS.items()}
        yield from _compared(facts, f".vs-{first}", words)


def interval_outcomes(facts: Known) -> Iterator[Sentence]:
    """What the agents really did, and what changed since the interval before."""
    for fact in levels(facts):
        yield Sentence(f"{{{fact.fact_id}@name}}: {{{fact.fact_id}@value}}.")
    yield from _compared(facts, ".change", _COURSES)


def outcome_rivals(facts: Known, fact: Fact | None = None) -> list[str]:
    """Whom an outcome (the first unless told) is beside, and has a name, by the end of their ids."""
    of = fact or next(iter(levels(facts)), None)
    start = f"{of.fact_id}." if of else "."
    ends = [key.removeprefix(start) for key in facts if key.startswith(start)]
    return [one for one in ends if _named(one, facts)]


def _named(rival: str, facts: Known) -> bool:
    """Whether it is a rival, and the facts tell its name: of a question they are those of one rival alone."""
    return (rival == "serving" and "version.previous" in facts) or f"return.vs-{rival}" in facts


def rival_name(rival: str, facts: Known) -> str:
    """Return the placeholder of a rival's name."""
    known = rival == "serving" and "version.previous" in facts
    return "{version.previous}" if known else f"{{return.vs-{rival}@name}}"


def _compared(facts: Known, end: str, words: dict[Direction, str]) -> Iterator[Sentence]:
    """Say where it is better, where worse, and where neither is shown; in an outcome's own way of being good."""
    changes = [fact for key, fact in facts.items() if key.startswith(OUTCOME) and key.endswith(end)]
    for merit, said in words.items():
        found = [fact for fact in changes if merit_of(fact) == merit]
        for place in range(0, len(found), IN_SENTENCE):
            some = found[place : place + IN_SENTENCE]
            sizes = ["" if merit == "flat" else f" by {{{fact.fact_id}@size}}" for fact in some]
            named = [f"{{{fact.fact_id}@name}}{size}" for fact, size in zip(some, sizes, strict=True)]
            claims = {fact.fact_id: fact.direction for fact in some if fact.direction}
            yield Sentence(f"{said} {listed(named)}.", claims)
