"""What a model is tuned on, and what it is judged on: pairs of a fact's prompt and a sentence that was accepted.

Sentences are those of reports, where one of them is on that fact alone; else a wording. What is held out is whole
tasks, and the last part of the time. No pair of what is held out is in training, and none that differs from one only in
the letters and places of names; so there is a wording of each kind that training never sees.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from headrace.learners.tuning.right_kind import kind_problems
from headrace.learners.tuning.wordings import wordings
from headrace.schemas.grounding import PLACEHOLDER, placed
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.answer import Answer, read
from headrace.schemas.narration.kinds import kind_of
from headrace.schemas.narration.question import stance_of
from headrace.schemas.narration.single import INSTRUCTIONS, Said, answered, prompt, schema
from headrace.schemas.records import Fact, Facts, Sentence

HELD_TASKS: Final = 0.2
"""Of tasks that are held out, by the hash of their name: it is the same in every export."""
HELD_TIME: Final = 0.2
"""Of the reports of the other tasks, the newest are held out too."""


class Told(msgspec.Struct, frozen=True):
    """A report's facts and sentences."""

    end_ms: int
    facts: Facts
    sentences: tuple[Sentence, ...] = ()


class Example(NamedTuple):
    """A pair. kind, stance: of the fact. accepted: the sentence is of a report."""

    prompt: str
    text: str
    kind: str
    stance: str
    accepted: bool

    @property
    def near(self) -> str:
        """Return what all near-duplicates have in common: the pair without letters and places of names."""
        prompt = re.sub(r"^id: .*$|[0-9]+", "", self.prompt, flags=re.MULTILINE)
        return f"{prompt}\n{self.text.lower()}"

    @property
    def chat(self) -> dict[str, Any]:
        """Return the pair in OpenAI's format for tuning chat models."""
        answer = msgspec.json.encode(Said(self.text)).decode()
        roles = {"system": INSTRUCTIONS, "user": self.prompt, "assistant": answer}
        return {"messages": [{"role": role, "content": content} for role, content in roles.items()]}


class Split(NamedTuple):
    """train, held_out: pairs. facts: of the reports that are held out."""

    train: list[Example]
    held_out: list[Example]
    facts: list[Facts]


def split(told: Sequence[Told], seed: int) -> Split:
    """Divide reports as the module says, and make pairs of them; the seed chooses wordings."""
    rng = np.random.default_rng(seed)
    known = sorted((one for one in told if not held_task(one.facts.task)), key=lambda one: one.end_ms)
    kept = known[: len(known) - int(HELD_TIME * len(known))]
    last_ms = kept[-1].end_ms if kept else 0
    late = [one for one in known if one.end_ms > last_ms]
    held = [one for one in told if held_task(one.facts.task)] + late
    held_out = [example for one in held for example in examples(one, rng, held_out=True)]
    unwanted = {example.near for example in held_out}
    train = [example for one in kept for example in examples(one, rng, held_out=False)]
    return Split([one for one in train if one.near not in unwanted], held_out, [one.facts for one in held])


def held_task(task: str) -> bool:
    """Whether a task is held out."""
    return int(hashlib.sha256(task.encode()).hexdigest()[:8], 16) < HELD_TASKS * 2**32


def examples(told: Told, rng: np.random.Generator, *, held_out: bool) -> list[Example]:
    """Return a pair for each fact of a report that a sentence or a wording is known of."""
    aliases, found = Aliases(told.facts), list[Example]()
    accepted = {fact_id: text for one in told.sentences for fact_id, text in _said(one, told.facts, aliases)}
    for fact in told.facts.facts:
        known = wordings(fact, aliases)
        known = known[-1:] * (len(known) > 1) if held_out else known[:-1] or known  # the last is never trained on
        text = accepted.get(fact.fact_id) or (str(rng.choice(known)) if known else "")
        if text:
            kind = kind_of(fact.fact_id).name
            found.append(Example(prompt(fact, aliases), text, kind, stance_of(fact), accepted=fact.fact_id in accepted))
    return found


def _said(sentence: Sentence, facts: Facts, aliases: Aliases) -> list[tuple[str, str]]:
    """Return the fact that a sentence is on, and the text that a model would have answered; nothing if it can't have.

    That is where the sentence has one number, and the answer would be accepted now, in words of the right kind.
    """
    numbers = {one.fact_id for one in placed(sentence) if one.part != "name"}
    fact = next((one for one in facts.facts if {one.fact_id} == numbers), None)
    if fact is None:
        return []

    def mark(found: re.Match[str]) -> str:
        return f"{{{found[2] or ''}}}" if found[1] == fact.fact_id else "{other}" * (found[2] == "name")

    text = PLACEHOLDER.sub(mark, sentence.text)
    return [(fact.fact_id, text)] if acceptable(text, fact, facts, aliases) else []


def acceptable(text: str, fact: Fact, facts: Facts, aliases: Aliases) -> bool:
    """Whether a model's text on a fact has the form that is asked for, is grounded, and of the right kind."""
    pattern = schema(fact, aliases)["properties"]["text"]["pattern"]
    if not re.fullmatch(pattern.strip("^$"), text) or kind_problems(text, kind_of(fact.fact_id).name):
        return False
    return read(Answer((answered(Said(text), fact, aliases),)), facts)[0].sentence is not None


def manifest(made: Split, seed: int, reports: int, invented: int) -> dict[str, Any]:
    """Say what is in a data set: counts, hashes, the rule of the split, and how much of what is held out is new."""
    prompts = {one.prompt for one in made.train}
    held = [one.prompt for one in made.held_out]
    return {
        "seed": seed,
        "reports": reports,
        "invented_tasks": invented,
        "split": f"held out: {HELD_TASKS:.0%} of tasks by the hash of their name, and the newest {HELD_TIME:.0%} of "
        "the reports of the others; no pair of theirs, nor a near-duplicate, is in training",
        "train": _counts(made.train),
        "held_out": {**_counts(made.held_out), "reports": len(made.facts)},
        "held_out_prompts_seen": round(sum(one in prompts for one in held) / max(1, len(held)), 4),
    }


def _counts(pairs: Sequence[Example]) -> dict[str, Any]:
    return {
        "pairs": len(pairs),
        "accepted_narrations": sum(one.accepted for one in pairs),
        "by_kind": dict(sorted(Counter(one.kind for one in pairs).items())),
        "sha256": hashlib.sha256(lines(pairs)).hexdigest(),
    }


def lines(pairs: Sequence[Example]) -> bytes:
    """Return pairs as JSON lines."""
    return "".join(json.dumps(one.chat) + "\n" for one in pairs).encode()
