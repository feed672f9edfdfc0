"""A language model as the advisor. It gets numbers under headrace's own names and chooses among what may be changed.

It writes no sentence that is shown: its reasons are names of facts, and the reason that is logged states those facts.
A small model reads slowly, and digits most slowly: so the facts are lines of numbers in four digits, what is always the
same comes first, and each change is a choice rather than a number of its own.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from headrace.schemas.directives import (
    ACTIONS,
    PROBATION_MAX,
    PROPOSALS_MAX,
    Action,
    LearningFacts,
    Proposal,
    described,
    stated,
)
from headrace.schemas.errors import UnreadableAnswerError
from headrace.schemas.ports import Adapter, Backend
from headrace.schemas.scenarios import PROPOSED, Scenario, Variations, proposed
from headrace.schemas.url import Url

if TYPE_CHECKING:
    from headrace.sinks.openai.client import OpenAIClient

WAYS: Final = {"much less": -1.0, "less": -0.5, "more": 0.5, "much more": 1.0}
"""By how much of what is allowed at once a setting is changed."""
INSTRUCTIONS: Final = f"""\
You advise a reinforcement learner while it learns. Read the facts and choose at most {PROPOSALS_MAX} changes of its \
settings that make the returns rise, the most urgent first; none where all goes well. "much less" and "much more" are \
the most that is allowed at once. Each change is on trial and is undone if the return falls. "because" names the facts \
that speak for it. The fact "earlier" has changes that were proposed before: the new value, the verdict, and by how \
much the return changed since, with its 95 % interval. Do not repeat what was refused or undone. The settings:
"""
SCENARIOS: Final = f"""\
You choose variations of an environment, in which a policy is trained in half of its episodes, so that it does better
in the environment as it is. You get numbers as JSON: "bounds" has the lowest and highest value of what may be varied,
"loss" how much return a simple rule loses to the best plan where nothing is varied, "losses" where one value is
extreme. Answer with {PROPOSED} different scenarios. Each has every value, within its bounds.
"""
STEADY: Final = frozenset({"floor", "rules", "settings"})
BECAUSE_MAX: Final = 2
"""Facts of a reason; without bounds a small model goes on until its tokens are spent."""


class Advice(Struct, frozen=True, forbid_unknown_fields=True):
    """One change, as the model states it: a setting and a way."""

    change: str
    because: list[str]


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What the model answers."""

    changes: list[Advice]


class ProposedScenarios(Struct, frozen=True, forbid_unknown_fields=True):
    """What the model would train on besides."""

    scenarios: list[dict[str, float]]


def choices(facts: LearningFacts) -> dict[str, Proposal]:
    """Return what may be chosen: each setting that is not on probation, each way that changes it within its bounds."""
    return dict(_choices(facts)) if len(facts.probation) < PROBATION_MAX else {}


def _choices(facts: LearningFacts) -> Iterator[tuple[str, Proposal]]:
    for key, now in facts.settings.items():
        change, _, target = key.partition(".")
        values = {} if key in facts.probation else {way: _moved(ACTIONS[change], now, WAYS[way]) for way in WAYS}
        yield from ((f"{key} {way}", Proposal(change, to, target)) for way, to in values.items() if to != now)


def _moved(action: Action, now: float, share: float) -> float:
    """Return a setting's value after a share of the most that is allowed at once, rounded towards what it is."""
    value = now * action.ratio**share if action.ratio else now + action.step * share
    value = min(max(value, action.low), action.high)
    return float((math.floor if share > 0.0 else math.ceil)(value)) if action.whole else value


def known(facts: LearningFacts) -> list[str]:
    """Return the names of the facts that say anything, first those that are the same from version to version."""
    told = [name for name in facts.__struct_fields__ if getattr(facts, name) not in (None, (), {})]
    return sorted(told, key=lambda name: name not in STEADY)


def schema(facts: LearningFacts) -> dict[str, Any]:
    """Return the JSON Schema that the model is held to: what may be chosen, and the names of facts."""
    advice = {
        "change": {"type": "string", "enum": list(choices(facts))},
        "because": {"type": "array", "maxItems": BECAUSE_MAX, "items": {"type": "string", "enum": known(facts)}},
    }
    most = min(PROPOSALS_MAX, PROBATION_MAX - len(facts.probation))
    return _object({"changes": {"type": "array", "maxItems": most, "items": _object(advice)}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def instructions(facts: LearningFacts) -> str:
    """Return the system's message: the task, and what the settings of this learner are."""
    changes = dict.fromkeys(key.partition(".")[0] for key in facts.settings)
    return INSTRUCTIONS + "\n".join(f"- {change}: {ACTIONS[change].description}" for change in changes)


class OpenAIAdvisor(Backend):
    """A model behind the advisor's port."""

    def __init__(self, client: "OpenAIClient") -> None:
        self.name = f"openai:{client.settings.model}"
        self._client = client

    def propose(self, facts: LearningFacts) -> list[Proposal]:
        offered = choices(facts)
        if not offered:
            return []
        question = "\n".join(stated(facts, known(facts)))
        answer = self._client.ask(instructions(facts), question, "changes", Answer, schema(facts))
        return [self._proposal(one, offered, facts) for one in answer.changes[:PROPOSALS_MAX]]

    def _proposal(self, one: Advice, offered: Mapping[str, Proposal], facts: LearningFacts) -> Proposal:
        if one.change not in offered:
            raise UnreadableAnswerError(f"{self.name}: it chose a change that was not offered")
        return msgspec.structs.replace(offered[one.change], reason=described(facts, one.because))

    def scenarios(self, variations: Variations) -> Sequence[Scenario]:
        question = msgspec.json.encode(variations).decode()
        loads = _object({name: {"type": "number"} for name in variations.bounds})
        schema = _object({"scenarios": {"type": "array", "maxItems": PROPOSED, "items": loads}})
        answer = self._client.ask(SCENARIOS, question, "scenarios", ProposedScenarios, schema)
        found = proposed(answer.scenarios, variations.bounds)
        if not found:
            raise UnreadableAnswerError(f"{self.name}: none of its scenarios lies within the bounds")
        return found

    def about(self) -> str:
        return self._client.about()

    def close(self) -> None:
        self._client.close()


def open_advisor(url: Url, *_: object, environ: Mapping[str, str] = os.environ) -> OpenAIAdvisor:
    """Open the advisor; raises SettingsError."""
    from headrace.sinks.openai.client import open_client  # noqa: PLC0415 a second to load, for jobs that ask nothing

    return OpenAIAdvisor(open_client(url, environ))


OPTIONS: Final = ("mode", "every", "base_url", "timeout_s", "max_tokens", "key_file")
ADAPTER: Final = Adapter(open_advisor, OPTIONS, driver="openai>=3")
