"""Words of the field, each explained where a text first has it, for readers who do not learn machines to act."""

import re
from collections.abc import Sequence
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


def explained(title: str, sentences: Sequence[str], known: set[str] | None = None) -> list[str]:
    """Return the sentences, with what a word means behind the first that has it.

    A word that only the title has is explained behind the first sentence. known: meanings that the reader was given
    before; those that are given now are added.
    """
    known = set() if known is None else known
    told = [*sentences]
    for word, meaning in _PATTERNS.items():
        places = [place for place, sentence in enumerate(sentences) if word.search(sentence)]
        if not places and sentences and word.search(title):
            places = [0]
        if places and meaning not in known:
            known.add(meaning)
            told[places[0]] += f" ({meaning})"
    return told
