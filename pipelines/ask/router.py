"""From a question's text to what it asks for, by rules and word weights: names and times first, then the kind."""

import re
from zoneinfo import ZoneInfo

from headrace.pipelines.ask.grammar import grammar
from headrace.pipelines.ask.question import Kind, Question
from headrace.pipelines.ask.slots import Names, Slots, filled
from headrace.pipelines.ask.weigh import weighed


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
    return weighed(slots.text, scores(slots.text))


def scores(text: str) -> dict[Kind, float]:
    """Return by kind what speaks for it."""
    found: dict[Kind, float] = {}
    for kind, rows in grammar().kinds.items():
        weights = [weight for weight, pattern in rows if pattern.search(text)]
        found[kind] = sum(weights) if max(weights, default=0) > 0 else 0.0
    return found
