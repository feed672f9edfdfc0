"""Grounding: a narrative may say only what its facts bear out, and never writes a number itself.

Placeholders of a sentence's text, filled in by `fill`:

- `{fact_id}`: the number with its unit and interval. `{fact_id@value}`: without the interval.
  `{fact_id@size}`: without sign and interval, for "fell by". `{fact_id@label}`: the fact's label.
  `{fact_id@name}`: the label up to its first comma ("the rate rule, difference in return": "the rate rule").
- `{@task}` and `{@subject}`: those fields of the facts.

So names (of tasks, versions, features, actions) come through placeholders too, and the text around them can
be held to a strict rule: plain Latin letters and punctuation, no digit, no number word, no markup, no link.
A word that asserts a direction ("rose", "better", "unchanged") needs a claim, on a change that its own clause
places, with the direction that the change's numbers have.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from headrace.schemas.errors import UngroundedReportError
from headrace.schemas.records import Direction, Fact, Facts, Narrative, Sentence

MAX_SENTENCES = 40
MAX_LENGTH = 600
"""Characters of a sentence."""

GOOD_UNITS = frozenset({"return", "discounted return", "per step"})
"""Units of which more is better; only of these, and of outcomes, may a sentence say "better" or "worse"."""

PLACEHOLDER = re.compile(r"\{([A-Za-z0-9._-]{1,64})(?:@(value|size|name|label))?\}|\{@(task|subject)\}")
_WORD = re.compile("[A-Za-z]+(?:['\u2019][A-Za-z]+)?")
# Typographic dashes, quotation marks and the ellipsis are let through.
_FORBIDDEN = re.compile("[^A-Za-z \\-.,;:!?'\"()\u2013\u2014\u2018\u2019\u201c\u201d\u2026]")
_LINK = re.compile(r"[A-Za-z]\.[A-Za-z]")
_CLAUSE = re.compile(r"[,;!?]|\.(?:\s|$)|\b(?:and|but|while|whereas|although|though|yet)\b", re.IGNORECASE)
_MARK = 0xE000  # a placeholder's stand-in while text is taken apart: private use, never in allowed text


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBER_WORDS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds "
    "thousand thousands million millions billion billions trillion dozen dozens couple percent percentage "
    "half halves halved halving third thirds quarter quarters fifth tenth double doubled doubles doubling "
    "twice thrice triple tripled quadruple quadrupled once twofold threefold fourfold fivefold tenfold"
)
_UP = _words(
    "rose rise rises risen rising increase increased increases increasing grew grow grows grown growing "
    "climbed climbs higher more greater larger up above exceeds exceeded"
)
_DOWN = _words(
    "fell fall falls fallen falling decrease decreased decreases decreasing drop dropped drops declined "
    "declines decline lower less fewer smaller down below shrank shrinks reduced reduces reduction"
)
_BETTER = _words(
    "better improved improves improve improving improvement gain gains gained beats beat outperforms "
    "outperformed ahead superior"
)
_WORSE = _words(
    "worse worsened worsens worsening deteriorated deteriorates degraded degrades trails trailed lags lagged "
    "underperforms underperformed behind inferior"
)
_FLAT = _words("unchanged flat stable steady")
_DIFFER = _words("differ differs differed change changed changes difference")
_MERIT = _BETTER | _WORSE
_TURNED: dict[Direction, Direction] = {"up": "down", "down": "up", "flat": "flat"}
_ALLOWED: dict[str, tuple[set[Direction], set[Direction]]] = {
    **dict.fromkeys(_UP | _BETTER, ({"up"}, {"flat", "down"})),
    **dict.fromkeys(_DOWN | _WORSE, ({"down"}, {"flat", "up"})),
    **dict.fromkeys(_FLAT, ({"flat"}, {"up", "down"})),
}
"""By word: the directions that bear it out, and those that bear out its negation."""
DIRECTIONAL = frozenset(_ALLOWED) | _DIFFER
"""All words that assert a direction."""
_CAUSES = re.compile(
    r"\b(because|caus(e[sd]?|ing)|due to|(lead|leads|led|leading) to|thanks to|owing to|as a result|result(s|ed|ing)? "
    r"(of|in|from)|therefore|hence|thus|thereby|consequently|since|so that|explain(s|ed|ing)?|why|reasons?|"
    r"driv(es?|en|ing)|drove|ma(de|kes?|king) (it|them|this)|attributable|stem(s|med|ming)? from|on account of|"
    r"in response to|br(ings?|ought) about|contribut(es?|ed|ing) to|responsible for|trigger(s|ed|ing)?)\b",
    re.IGNORECASE,
)
"""Words of cause. Facts are of what came together; only a counterfactual says what would have been otherwise."""
COUNTERFACTUAL = "counterfactual."
_NEGATIONS = _words("not no never nor neither without cannot")
_NEGATION_REACH = 4


def check(narrative: Narrative, facts: Facts) -> None:
    """Raise UngroundedReportError, with every problem in its message, unless the facts bear it out."""
    found = problems(narrative, facts)
    if found:
        raise UngroundedReportError(
            f"{narrative.narrator}'s narrative of {facts.task} {facts.subject} has {len(found)} ungrounded "
            f"statements; it is not published: " + "; ".join(found)
        )


def problems(narrative: Narrative, facts: Facts) -> list[str]:
    """Say what in the narrative (or in the facts themselves) is not borne out; empty when all is."""
    by_id = {fact.fact_id: fact for fact in facts.facts}
    found = list(_fact_problems(facts))
    if len(narrative.sentences) > MAX_SENTENCES:
        found.append(f"{len(narrative.sentences)} sentences; at most {MAX_SENTENCES} are allowed")
    for place, sentence in enumerate((narrative.headline, *narrative.sentences[:MAX_SENTENCES])):
        name = f"sentence {place}" if place else "headline"
        found.extend(f"{name}: {problem}" for problem in sentence_problems(sentence, by_id))
    return found


class Placed(NamedTuple):
    """A fact that a sentence shows. part: "", "value" or "size" for its number, "name" or "label" for its name."""

    fact_id: str
    part: str


def placed(sentence: Sentence) -> list[Placed]:
    """Return what a sentence shows, in its order."""
    found = PLACEHOLDER.finditer(sentence.text)
    return [Placed(match.group(1), match.group(2) or "") for match in found if match.group(1)]


def says(text: str, direction: Direction | None, *, merit: bool = True) -> bool:
    """Whether a word of the text, outside of placeholders, asserts the direction; merit: whether "better" does."""
    words = {word.lower() for word in _WORD.findall(PLACEHOLDER.sub(" ", text))} - (set() if merit else _MERIT)
    return any(_ALLOWED[word][0] == {direction} for word in words & _ALLOWED.keys())


def merit_of(fact: Fact) -> Direction | None:
    """Say whether a change is for the better (up) or the worse (down); None of what is no matter of merit."""
    if fact.better is None:
        return fact.direction if fact.unit in GOOD_UNITS else None
    return _TURNED[fact.direction] if fact.better == "lower" and fact.direction else fact.direction


def direction_of(value: float, low: float | None = None, high: float | None = None) -> Direction:
    """Say what a change amounts to: flat when its interval holds 0 (or it is 0), else its sign."""
    if value == 0.0 or (low is not None and high is not None and low <= 0.0 <= high):
        return "flat"
    return "up" if value > 0.0 else "down"


def fill(sentence: Sentence, facts: Facts, *, typographic: bool = False) -> str:
    """Put names and formatted numbers in the placeholders' stead.

    typographic: with true minus signs and no-break spaces, for pages; else plain ASCII, for subjects. Raises
    UngroundedReportError where a placeholder names no fact.
    """
    by_id = {fact.fact_id: fact for fact in facts.facts}

    def replacement(match: re.Match[str]) -> str:
        fact_id, part, field = match.groups()
        if field:
            return str(getattr(facts, field))
        if fact_id not in by_id:
            raise UngroundedReportError(f"{{{fact_id}}} names no fact of {facts.task} {facts.subject}")
        return format_fact(by_id[fact_id], part or "", typographic=typographic)

    return PLACEHOLDER.sub(replacement, sentence.text)


def format_fact(fact: Fact, part: str = "", *, typographic: bool = False) -> str:
    """Write a fact as `{fact_id}` does; part: "", "value", "size", "name" or "label"."""
    if part in {"label", "name"}:
        name = fact.label if part == "label" else fact.label.split(",", 1)[0]
        return _typeset(name) if typographic else name
    decimals = _decimals(fact)
    signed = fact.direction is not None and part != "size"
    value = abs(fact.value) if part == "size" else fact.value
    if fact.unit == "%" and 0.0 < value < 0.05 and fact.low is None:
        return "<0.1 %"
    text = _with_unit(_number(value, decimals, signed=signed), value, fact.unit, own=fact.better is None)
    if not part and fact.low is not None and fact.high is not None:
        text += f" (95 % {_interval(fact, decimals)})"
    return _typeset(text) if typographic else text


def format_interval(fact: Fact) -> str:
    """Write a fact's interval for a table; empty when it has none."""
    return _typeset(_interval(fact, _decimals(fact)))


def _interval(fact: Fact, decimals: int) -> str:
    if fact.low is None or fact.high is None:
        return ""
    signed = fact.direction is not None
    low, high = (_number(bound, decimals, signed=signed) for bound in (fact.low, fact.high))
    return f"{low} to {high}"


def _typeset(text: str) -> str:
    text = re.sub(r"(?<![\w.])-(?=\d)", "\u2212", text)
    return text.replace(" %", "\u00a0%")


def _with_unit(number: str, value: float, unit: str, *, own: bool) -> str:
    """own: whether the unit is headrace's, which has a singular."""
    if unit == "version":
        return f"v{number.replace(',', '')}"
    if not unit:
        return number
    singular = own and number in {"1", "+1", "-1"} and unit.endswith("s") and unit != "ms" and value == round(value)
    return f"{number} {unit[:-1] if singular else unit}"


def _number(value: float, decimals: int, *, signed: bool) -> str:
    size = abs(value)
    if size >= 1e15 or 0.0 < size < 1e-6:
        return f"{value:+.2e}" if signed else f"{value:.2e}"
    text = f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"
    # A rounded zero has no sign: neither "-0.0" nor "+0.0".
    return text if any(digit in text for digit in "123456789") else text.lstrip("+-")


def _decimals(fact: Fact) -> int:
    """Choose as many digits as the interval warrants; without one, three significant ones."""
    if fact.low is not None and fact.high is not None and fact.high > fact.low:
        return _interval_decimals((fact.high - fact.low) / 2.0, (fact.low, fact.high))
    if fact.value == round(fact.value):
        return 0
    magnitude = math.floor(math.log10(abs(fact.value)))
    if fact.unit == "%":
        return 1 if magnitude < 1 else 0
    return min(max(0, 2 - magnitude), 6)


def _interval_decimals(half: float, bounds: tuple[float, float]) -> int:
    """One significant digit of the half-width, two when it begins with 1 or 2 (as physicists round)."""
    if not math.isfinite(half) or half < 1e-9:
        return 2
    magnitude = math.floor(math.log10(half))
    decimals = max(0, (1 if half / 10.0**magnitude < 3.0 else 0) - magnitude)
    # A bound that only rounds to 0 would read as if the interval held 0.
    while decimals < 6 and any(bound and round(bound, decimals) == 0.0 for bound in bounds):
        decimals += 1
    return min(decimals, 6)


def _fact_problems(facts: Facts) -> Iterator[str]:
    seen = set[str]()
    for fact in facts.facts:
        if fact.fact_id in seen:
            yield f"fact {fact.fact_id} is there twice"
        seen.add(fact.fact_id)
        numbers = (fact.value, fact.low, fact.high)
        if not all(math.isfinite(number) for number in numbers if number is not None):
            yield f"fact {fact.fact_id} is not finite"
        # Flat is allowed against the fact's own interval: among many comparisons not each one counts.
        elif fact.direction not in {None, _shown(fact)} and (fact.direction != "flat" or None in numbers):
            yield f"fact {fact.fact_id} is called {fact.direction}, which its numbers are not"


def _shown(fact: Fact) -> Direction:
    """Return the direction that a fact's own numbers show."""
    return direction_of(fact.value, fact.low, fact.high)


def sentence_problems(sentence: Sentence, by_id: dict[str, Fact]) -> Iterator[str]:
    """Say what in one sentence is not borne out by facts, given by their ids; nothing when all is."""
    if len(sentence.text) > MAX_LENGTH:
        yield f"{len(sentence.text)} characters; at most {MAX_LENGTH} are allowed"
        return
    shown = [one.fact_id for one in placed(sentence)]
    yield from (f"{{{fact_id}}} names no fact" for fact_id in shown if fact_id not in by_id)
    text = PLACEHOLDER.sub(" ", sentence.text)
    yield from _text_problems(text)
    cause = _CAUSES.search(text)
    if cause and not any(fact_id.startswith(COUNTERFACTUAL) for fact_id in shown):
        yield f'"{cause.group()}" asserts a cause without a counterfactual that bears it out'
    yield from _claim_problems(sentence, set(shown), by_id)
    yield from _direction_problems(sentence, by_id)


def _text_problems(text: str) -> Iterator[str]:
    """Check the text outside the placeholders."""
    forbidden = sorted(set(_FORBIDDEN.findall(text)))
    if forbidden:
        yield f"{' '.join(map(repr, forbidden))} outside placeholders, through which numbers and names come"
    if _LINK.search(text):
        yield "a full stop inside a word reads as a link"
    words = {word.lower() for word in _WORD.findall(text)}
    numbers = sorted(words & _NUMBER_WORDS)
    if numbers:
        yield f"number words outside placeholders: {', '.join(numbers)}"


def _claim_problems(sentence: Sentence, placed: set[str], by_id: dict[str, Fact]) -> Iterator[str]:
    for fact_id, direction in sentence.claims.items():
        fact = by_id.get(fact_id)
        if fact is None:
            yield f"claims {direction} of {fact_id}, which is no fact"
        elif fact.direction is None:
            yield f"claims {direction} of {fact_id}, which is a level, not a change"
        elif direction != fact.direction:
            yield f"claims {direction} of {fact_id}, which is {fact.direction}"
        elif fact_id not in placed:
            yield f"claims {direction} of {fact_id} without showing it"


def _direction_problems(sentence: Sentence, by_id: dict[str, Fact]) -> Iterator[str]:
    """Check that each word of direction is borne out by a claim on a change that its clause places.

    A clause that places none ("The return rose; it is ...") speaks of the next one that does, else of the last.
    """
    ids: list[str] = []

    def mark(match: re.Match[str]) -> str:
        ids.append(match.group(1) or "")
        return f" {chr(_MARK + len(ids) - 1)} "

    clauses = _CLAUSE.split(PLACEHOLDER.sub(mark, sentence.text))
    changes = [_changes(clause, ids, by_id) for clause in clauses]
    for place, clause in enumerate(clauses):
        near = changes[place] or next(filter(None, changes[place + 1 :] + changes[:place][::-1]), [])
        claimed = [fact_id for fact_id in near if fact_id in sentence.claims]
        words = [word.lower().replace("\u2019", "'") for word in _WORD.findall(clause)]
        for at, word in enumerate(words):
            before = words[max(0, at - _NEGATION_REACH) : at]
            negated = any(other in _NEGATIONS or other.endswith("n't") for other in before)
            if not _covered(word, claimed, sentence.claims, by_id, negated=negated):
                yield f'"{word}" asserts a direction that no claim on a fact of its clause bears out'


def _changes(clause: str, ids: list[str], by_id: dict[str, Fact]) -> list[str]:
    """Return the changes (not levels) that a clause places."""
    placed = [ids[ord(char) - _MARK] for char in clause if 0 <= ord(char) - _MARK < len(ids)]
    return [fact_id for fact_id in placed if fact_id in by_id and by_id[fact_id].direction is not None]


def _covered(
    word: str, claimed: list[str], claims: dict[str, Direction], by_id: dict[str, Fact], *, negated: bool
) -> bool:
    """Whether the word asserts nothing, or a claim bears it out; "not better" holds of flat and of down.

    What is called flat against its own interval is only "not shown to differ": neither "unchanged" nor "not better".
    """
    if word in _DIFFER:
        return not negated or any(claims[fact_id] == "flat" for fact_id in claimed)
    if word not in _ALLOWED:
        return True
    allowed, good = _ALLOWED[word][negated], word in _MERIT
    return any(
        {claims[fact_id], _shown(by_id[fact_id])} <= (_merits(by_id[fact_id], allowed) if good else allowed)
        for fact_id in claimed
    )


def _merits(fact: Fact, allowed: set[Direction]) -> set[Direction]:
    """Return the directions that bear out a word of merit; none where the fact is no matter of merit."""
    if merit_of(fact) is None:
        return set()
    return {_TURNED[one] for one in allowed} if fact.better == "lower" else allowed
