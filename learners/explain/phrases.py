"""What the template's sentences are put together from."""

from collections.abc import Callable, Iterator, Sequence

from headrace.schemas.records import Direction, Fact, Sentence

MAX_NAMED = 4
"""Things that one sentence lists."""

Known = dict[str, Fact]
Part = Callable[[Known], Iterator[Sentence]]


def by_direction(facts: Known, fact_id: str, words: dict[Direction, str]) -> Sentence:
    """Say of a change what is so."""
    direction = facts[fact_id].direction
    assert direction is not None
    return Sentence(words[direction], {fact_id: direction})


def under(facts: Known, prefix: str) -> list[Fact]:
    """Return the facts whose ids begin so."""
    return [fact for key, fact in facts.items() if key.startswith(prefix)]


def listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def rules_broken(facts: Known) -> list[str]:
    """Return the rules that rejected messages, the ones that rejected most first, each with its number."""
    rules = [fact for fact in under(facts, "rejected.") if fact.fact_id != "rejected.total"]
    rules.sort(key=lambda fact: -fact.value)
    return [f"{{{fact.fact_id}@name}} ({{{fact.fact_id}@value}})" for fact in rules[:MAX_NAMED]]
