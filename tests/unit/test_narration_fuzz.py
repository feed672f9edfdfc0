"""Ten thousand answers made from good ones: no sentence gets through that its fact does not bear out.

What "bear out" means is said here once more, by other words and in another way than the checker's: `faults`. Each part
of the checker is also taken out in turn, and the same answers must then show that it is missing. Number
words and links are kept out twice over: tests/unit/test_explain_grounding.py has them.
"""

import importlib
import random
import re
import sys
import unicodedata

import pytest
from narration_examples import every_facts

from headrace.schemas.errors import UngroundedReportError
from headrace.schemas.grounding import fill
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.records import Direction, Fact, Facts

ANSWERS = 10_000
BY_DIRECTION: dict[Direction | None, tuple[str, ...]] = {
    "up": (
        "It rose by {size}.",
        "Compared with {name} the number is higher by {}.",
        "The difference to {name} is {}, an increase.",
        "It is better than {name} by {}.",
        "On this measure, {name}, there was growth of {}, which is more than before.",
    ),
    "down": (
        "It fell by {size}.",
        "Compared with {name} the number is lower by {}.",
        "The difference to {name} is {}, a decrease.",
        "The number for {name} dropped, and the drop was {size}.",
    ),
    "flat": (
        "It is not shown to differ from {name}: {}.",
        "No change is shown for {name}, where the number is {}.",
        "The number {} does not show a difference.",
    ),
    None: (
        "For {name} the number is {}.",
        "The report counts {} here, under the name of {name}.",
        "In all, {} were looked at.",
    ),
}


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


UP = words("rose higher increase increased grew more up growth above better improved gain beats greater exceeds")
DOWN = words("fell lower decrease decreased dropped drop less down below worse declined fewer smaller lags")
GOOD = words("better improved gain beats worse lags")
NOT = words("not no never neither nor without cannot")
NUMBERS = words("two three ten hundred million twice double half thirds percent dozen")
CAUSES = ("because", "due to", "led to", "thanks to", "caused", "therefore", "as a result of", "since", "explains")
JUDGING = words("huge impressive significantly should must guarantees always will you ignore perfect slightly proves")
MOVED = Facts(
    "task",
    "an interval with changes that are neither good nor bad",
    (
        Fact("rows.change", "rows, against the interval before", 5.0, "%", direction="up"),
        Fact("refusals.count", "refused, candidates", 3, "candidates"),
        Fact("versions.changed", "versions, at work in one alone", -2.0, "versions", direction="down"),
    ),
)
STRANGE = words("popular secure surged greatest plunged chaos")
NASTY = (
    *(*UP, *DOWN, *NOT, *NUMBERS, *CAUSES, *JUDGING, *STRANGE),
    *("7", "+3.5 %", "\u0667", "\u00bd", "\u2167", "<b>", "</script>", "http://x.y", "evil.com", "`rm`", "\n", "\x00"),
    *("{rows.total}", "{return.vs-serving}", "{}", "{size}", "{value}", "{name}", "{other}", "{x}", "{", "}", "{{}}"),
    *("\u0430", "\u202e", ".", ",", ";", "and", "but", "than", "the", "of", "differs", "unchanged", "stable", "n't"),
    *["because"] * 5,
)
CHARACTERS = "[A-Za-z #.,:;!?'\"()\u2013\u2014\u2018\u2019\u201c\u201d\u2026-]+"


def faults(stance: str, text: str, fact: Fact, shown: str) -> list[str]:
    """Say what is wrong with an accepted sentence. text: with its placeholders; shown: as a reader sees it."""
    bare = re.sub(r"\{[^{}]*\}", " # ", text)
    said = set(re.findall(r"[a-z]+(?:'t)?", bare.lower()))
    numbers = set(re.findall(r"\{([^{}@]+)(?:@size|@value)?\}", text))
    wrong = {
        "stance": stance != (fact.direction or "level"),
        "number": any(unicodedata.numeric(char, None) is not None for char in bare) or NUMBERS & said,
        "characters": not re.fullmatch(CHARACTERS, bare) or ".c" in bare,
        "cause": re.search(r"\b(" + "|".join(CAUSES) + r")\b", bare.lower())
        and not fact.fact_id.startswith("counterfactual."),
        "judging": JUDGING & said,
        "claims what no fact is about": STRANGE & said,
        "another fact's number, or none": "{" in shown or "}" in shown or numbers != {fact.fact_id},
        "better, of what is neither good nor bad": GOOD & said
        and fact.unit not in {"return", "discounted return", "per step"},
        "the sign is hidden": "@size}" in text and not (UP | DOWN) & said,
        "no single sentence": len(re.findall(r"[.!?](?:\s|$)", bare)) != 1 or not bare.rstrip().endswith("."),
        "direction": _misdirected(said, fact),
    }
    return [name for name, holds in wrong.items() if holds]


def _misdirected(said: set[str], fact: Fact) -> bool:
    """Whether a direction is asserted that the fact has not, or denied of what has none."""
    negated = bool(NOT & said) or any(word.endswith("n't") for word in said)
    asserted = {direction for direction, those in (("up", UP), ("down", DOWN)) if those & said}
    if negated:
        return bool(asserted) and fact.direction is None
    return bool(asserted - {fact.direction})


def mutated(text: str, rng: random.Random) -> str:
    parts = text.split(" ")
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(parts) + 1)
        how = rng.randrange(6)
        if how <= 1:
            parts.insert(place, rng.choice(NASTY))
        elif how == 2:
            parts[min(place, len(parts) - 1)] = rng.choice(NASTY)
        elif how == 3 and len(parts) > 3:
            del parts[min(place, len(parts) - 1)]
        elif how == 4:
            other = rng.choice(BY_DIRECTION[rng.choice(list(BY_DIRECTION))]).split(" ")
            parts = parts[:place] + other[rng.randrange(len(other)) :]
        else:
            at = min(place, len(parts) - 1)
            parts[at] = parts[at][: rng.randrange(len(parts[at]) + 1)] + rng.choice(["", "", "s", "\u0301", "."])
    return " ".join(parts)


def answers(count: int, seed: int = 11):
    """Facts, and what a model might say of one of them."""
    rng, all_facts = random.Random(seed), [*every_facts().values(), MOVED]
    for _ in range(count):
        facts = rng.choice(all_facts)
        fact = rng.choice(facts.facts)
        said_of = fact if rng.random() < 0.9 else rng.choice(facts.facts)
        stance = said_of.direction or "level" if rng.random() < 0.9 else rng.choice(["up", "down", "flat", "level"])
        alias = Aliases(facts).of[fact.fact_id] if rng.random() < 0.95 else rng.choice([fact.fact_id, "x.y", ""])
        yield facts, alias, stance, mutated(rng.choice(BY_DIRECTION[said_of.direction]), rng)


def let_through(answer):
    """Of each sentence that a checker accepts say what is wrong with it."""
    for facts, alias, stance, text in answers(ANSWERS):
        (one,) = answer.read(answer.Answer((answer.AnswerSentence(alias, stance, text),)), facts)
        if one.sentence is None:
            assert one.complaints
            continue
        fact = next(fact for fact in facts.facts if fact.fact_id == one.fact_id)
        try:
            shown = fill(one.sentence, facts)
        except UngroundedReportError:  # of a checker with a part taken out
            shown = "{"
        named = shown.replace(fact.label.split(",", 1)[0], "")  # a name may hold braces
        found = faults(stance, one.sentence.text, fact, named)
        found += ["of another fact"] if alias != Aliases(facts).of[fact.fact_id] else []
        yield [f"{fault}: {text!r} of {fact}" for fault in found]


def test_no_ungrounded_sentence_gets_through() -> None:
    accepted = list(let_through(importlib.import_module("headrace.schemas.narration.answer")))
    assert [found for found in accepted if found] == []
    assert 0.2 * ANSWERS < len(accepted) < 0.8 * ANSWERS, "else the answers are too bad, or too good, to tell"


MUTANTS = [
    ("narration.answer", "one.stance != stance_of(fact)", "False"),
    ("narration.answer", "if inside in own:", "if own.setdefault(inside, inside) is not None:"),
    ("narration.answer", 'if "@size}" in text and not', "if False and not"),
    ("narration.answer", "for complaint in wording_problems(text, kind_of(fact.fact_id))", "for complaint in ()"),
    ("narration.answer", "for complaint in sentence_problems(sentence, by_id)", "for complaint in ()"),
    (
        "narration.answer",
        'aliases.fact_ids.get(one.fact, "")',
        "aliases.fact_ids.get(one.fact, facts.facts[0].fact_id)",
    ),
    ("narration.wording", "if word in _BANNED]", "if False]"),
    ("narration.wording", "word not in vocabulary(kind) and word not in _BANNED", "False"),
    ("narration.wording", "elif not _ONE_SENTENCE.fullmatch(plain)", "elif False"),
    ("grounding", "    if forbidden:\n", "    if False:\n"),
    ("grounding", "if cause and not any(", "if False and not any("),
    ("grounding", "yield from _direction_problems(sentence, by_id)", "yield from ()"),
    ("grounding", "if word not in _ALLOWED:\n        return True", "return True"),
    ("grounding", "_ALLOWED[word][negated]", "_ALLOWED[word][0] | _ALLOWED[word][1]"),
    ("grounding", "if merit_of(fact) is None:", "if False:"),
    ("grounding", "return any(\n        {claims", "return claimed == [] or any(\n        {claims"),
]


@pytest.mark.parametrize(("module", "old", "new"), MUTANTS, ids=range(len(MUTANTS)))
def test_a_checker_without_one_of_its_parts_is_found_out(module, old, new, monkeypatch) -> None:
    """The mutants' modules import each other, and nobody else imports them."""
    for name in ("grounding", "narration.wording", "narration.answer"):
        full = f"headrace.schemas.{name}"
        spec = importlib.util.find_spec(full)
        source = spec.loader.get_source(full)
        if name == module:
            assert source.count(old) == 1, f"{old!r} is no longer in {name}: change this list with it"
            source = source.replace(old, new)
        made = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, full, made)
        exec(compile(source, full, "exec"), made.__dict__)
    assert any(let_through(sys.modules["headrace.schemas.narration.answer"]))
