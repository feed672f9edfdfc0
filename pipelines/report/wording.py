"""Words of the field, each explained where a text first has it, for readers who do not learn machines to act."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

TERMS: Final[dict[str, str]] = {
    r"returns?": "Return: what the task rewards, summed over an episode, one run of the task; more is better.",
    r"traces": "Traces: test runs, the same for every version, from which none has learned.",
    r"rewards?": "Reward: the number that the task gives for each step of an agent; more is better.",
    r"gate": "The gate: the test that a version must pass before all agents act by it.",
    r"exploration": "Exploration: now and then agents try another action, to learn from what follows.",
    r"canary": "A canary: a version that a part of the agents tries first.",
    r"transitions?": "A transition: one step of an agent, with what it saw, did and was rewarded.",
    r"lineage": "Lineage: the list of all data that a version has learned from.",
}
"""By the word, as a pattern: what it means."""
_PATTERNS: Final = {re.compile(rf"\b{word}\b", re.IGNORECASE): meaning for word, meaning in TERMS.items()}


def explained(title: str, sentences: Iterable[str], known: set[str] | None = None) -> Iterator[str]:
    """Yield the sentences, each followed by what the words mean that stand in it, or in the title, for the first time.

    known: meanings that the reader was given before; those that are given now are added.
    """
    known = set() if known is None else known
    before = title
    for sentence in sentences:
        text = f"{before} {sentence}"
        new = [meaning for word, meaning in _PATTERNS.items() if meaning not in known and word.search(text)]
        known.update(new)
        before = ""
        yield " ".join([sentence, *(f"({meaning})" for meaning in new)])
