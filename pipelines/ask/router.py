"""From a question's text to what it asks for, without any model: names and times first, then the kind by its words."""

import re
from typing import Final
from zoneinfo import ZoneInfo

from headrace.pipelines.ask.grammar import grammar
from headrace.pipelines.ask.question import KINDS, Kind, Question
from headrace.pipelines.ask.slots import Names, Slots, filled, foreign

LEAST_SCORE: Final = 3.0
MOST_UNKNOWN: Final = (0.6, 0.45)
"""Of a question's words that say something, such a share may be foreign to all that can be asked: of one, of more."""


def route(text: str, names: Names, now_ms: int, zone: ZoneInfo, task: str | None = None) -> Question:
    """Return what a question asks for; its kind is None where it is out of scope.

    now_ms: what times are counted from. task: the one that is asked about, if that is known.
    """
    slots = filled(text, names, now_ms, zone, task)
    versions = (*slots.versions, None, None)
    version, other = versions[:2]
    kind = kind_of(slots)
    if kind == "change" and other is None and re.search("since VERSION", slots.text):
        version, other = None, version
    ordered = kind == "change" or re.search(r"VERSION (?:and|or) (?:\w+ )?VERSION", slots.text)
    if ordered and version is not None and other is not None:
        version, other = max(version, other), min(version, other)
    return Question(
        kind,
        *(slots.task, slots.agent, slots.moment, slots.episode, slots.step, version, other, slots.newest),
        *(slots.actions, slots.foils, slots.feature, slots.rule),
    )


def kind_of(slots: Slots) -> Kind | None:
    """Return the kind of the question that the slots were taken from; None where it is out of scope."""
    read, text = grammar(), slots.text
    if any(pattern.search(text) for pattern in read.declined) or not read.about.search(text) or _is_foreign(text):
        return None
    found = scores(text)
    best = max(KINDS, key=lambda kind: found[kind])
    return best if found[best] >= LEAST_SCORE else None


def scores(text: str) -> dict[Kind, float]:
    """Return by kind what speaks for it."""
    found: dict[Kind, float] = {}
    for kind, rows in grammar().kinds.items():
        weights = [weight for weight, pattern in rows if pattern.search(text)]
        found[kind] = sum(weights) if max(weights, default=0) > 0 else 0.0
    return found


def _is_foreign(text: str) -> bool:
    """Whether too many words that say something are foreign to all that can be asked."""
    words = [word for word in re.findall(r"[^\W\d_][\w'-]*", text) if word not in grammar().function]
    unknown = len(foreign(text))
    return unknown > MOST_UNKNOWN[unknown > 1] * len(words)
