"""Models asked for sentences on facts that are held out, by llama.cpp in this process."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from headrace.learners.tuning.scores import Outcome, judged
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.single import INSTRUCTIONS, prompt, schema
from headrace.schemas.records import Fact, Facts
from headrace.sinks.llama.engine import Engine
from headrace.sinks.llama.requests import Asked, Turn

MOST_TOKENS: Final = 64
"""Of a sentence."""

Question = tuple[Fact, Facts]


def questions(held_out: Sequence[Facts], most: int) -> list[Question]:
    """Return facts to ask about: each prompt once, at most so many, evenly of all that there are."""
    found = {prompt(fact, Aliases(facts)): (fact, facts) for facts in held_out for fact in facts.facts}
    every = [*found.values()]
    return [every[place * len(every) // most] for place in range(most)] if len(every) > most else every


def evaluate(model: Path, asked: Sequence[Question], told: Callable[[int, int], None]) -> list[Outcome]:
    """Ask a model about each fact, by the schema and without; told: (done, total). Raises as Engine does."""
    engine = Engine(model)
    try:
        found = []
        for place, (fact, facts) in enumerate(asked, 1):
            found.append(_outcome(engine, fact, facts))
            told(place, len(asked))
        return found
    finally:
        engine.close()


def _outcome(engine: Engine, fact: Fact, facts: Facts) -> Outcome:
    aliases = Aliases(facts)
    turns = (Turn("system", INSTRUCTIONS), Turn("user", prompt(fact, aliases)))
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    reply = engine.answer(Asked(engine.name, turns, schema(fact, aliases), MOST_TOKENS), lambda: False)
    seconds, cpu_seconds = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
    free = engine.answer(Asked(engine.name, turns, None, MOST_TOKENS), lambda: False)
    return judged(reply.text, free.text, fact, facts, 1e3 * seconds, 1e3 * cpu_seconds)
