"""What a language model is asked: facts under aliases, and the schema that its answer must have.

Of what whoever wrote the task or the data controls, only numbers are in it.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.kinds import kind_of
from headrace.schemas.narration.ranking import ranked
from headrace.schemas.records import Direction, Fact, Facts

Stance = Literal["up", "down", "flat", "level"]

SHOWN: Final = 40
"""Facts that a model is shown at most, the ones that mattered most: more costs tokens and is not told anyway."""
SENTENCES: Final = 8
"""Sentences that a model may answer with."""
UNITS: Final = frozenset(
    {"return", "discounted return", "per step", "%", "version", "ms", "s", "seconds"}
    | {"rows", "versions", "decisions", "traces", "comparisons", "agents", "episodes", "steps", "updates", "messages"}
    | {"windows", "candidates", "observations", "runs", "starts", "outages", "rollbacks", "commits"}
    | {"percentage points"}
)
"""Units of headrace's own; a model is told of no other."""

INSTRUCTIONS: Final = f"""\
You write the sentences of a report on a reinforcement-learning policy, for a reader who runs the system. You get facts
as JSON, those that matter most first; "kinds" says what facts of each kind are. Answer with at most {SENTENCES} \
sentences,
each on another fact: "fact" is its id, "stance" its direction ("level" where it has none), "text" the sentence.
You never write a number, a digit or a name: write {{}} where the fact's number belongs (with its unit and sign),
{{size}} for the number without its sign, as in "fell by {{size}}", and {{name}} for whom or what it is about. Of a part
or an action, {{other}} is the rival or the situation. Each text shows the number of its own fact once.
Say what the stance says: "up" rose or is better, "down" fell or is worse, "flat" is not shown to differ.
Do not say why anything is so, give no advice, promise nothing, praise nothing, address nobody. One sentence of plain
words each, those of the kind's meaning best, at most thirty, in English, that ends with a full stop.
"""


def stance_of(fact: Fact) -> Stance:
    """Return what a sentence on the fact must say of it."""
    return fact.direction or "level"


def subject_of(facts: Facts) -> str:
    """Return what the facts are about: "version", "decision", "interval", or the kind of question that was asked."""
    ids = {fact.fact_id for fact in facts.facts}
    asked = next((one for one in ids if one.startswith("asked.")), None)
    if asked is not None:
        return asked.removeprefix("asked.")
    if "version.policy" in ids:
        return "version"
    return "decision" if any(one.startswith("decision.") for one in ids) else "interval"


def shown(facts: Facts) -> tuple[Fact, ...]:
    """Return the facts that a model is shown."""
    return ranked(facts)[:SHOWN]


class _Shown(msgspec.Struct, omit_defaults=True):
    id: str
    kind: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    direction: Direction | None = None
    better: Literal["lower", "higher"] | None = None


def question(facts: Facts) -> str:
    """Return the facts as JSON, those that mattered most first. Numbers are rounded: of them a model only reads."""
    aliases, found = Aliases(facts), shown(facts)
    kinds = dict.fromkeys(kind_of(fact.fact_id) for fact in found)
    asked = {
        "about": subject_of(facts),
        "kinds": {kind.name: kind.meaning for kind in kinds},
        "facts": [_shown(fact, aliases) for fact in found],
    }
    return msgspec.json.encode(asked).decode()


def _shown(fact: Fact, aliases: Aliases) -> _Shown:
    low, high = (None if one is None else _rounded(one) for one in (fact.low, fact.high))
    unit = fact.unit if fact.unit in UNITS else ""
    kind = kind_of(fact.fact_id).name
    return _Shown(aliases.of[fact.fact_id], kind, _rounded(fact.value), unit, low, high, fact.direction, fact.better)


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")


def answer_schema(facts: Facts, wanted: Sequence[Fact] = ()) -> dict[str, Any]:
    """Return the strict JSON Schema of an answer: a fact's sentence can only have the stance that the fact has.

    wanted: the facts that sentences may be on; without any, all that are shown.
    """
    aliases = Aliases(facts)
    one_of = [
        _object(
            fact={"type": "string", "const": aliases.of[fact.fact_id]},
            stance={"type": "string", "const": stance_of(fact)},
            text={"type": "string"},
        )
        for fact in wanted or shown(facts)
    ]
    return _object(sentences={"type": "array", "maxItems": SENTENCES, "items": {"anyOf": one_of}})


def _object(**properties: Any) -> dict[str, Any]:  # noqa: ANN401
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
