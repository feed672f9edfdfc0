"""A language model as the advisor. It gets numbers under headrace's own names and answers with actions of the table.

It writes no sentence that is shown: its reasons are names of facts, and the reason that is logged states those facts.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from headrace.schemas.directives import ACTIONS, PROPOSALS_MAX, LearningFacts, Proposal, described
from headrace.schemas.errors import UnreadableAnswerError
from headrace.schemas.ports import Adapter, Backend
from headrace.schemas.scenarios import PROPOSED, Scenario, Variations, proposed
from headrace.schemas.url import Url

if TYPE_CHECKING:
    from headrace.sinks.openai.client import OpenAIClient

INSTRUCTIONS: Final = f"""\
You advise a deep reinforcement learner while it learns from a stream. You get facts about its learning as JSON:
numbers only. Propose changes of its settings that make the return at the gate rise; propose none where nothing needs
changing: each change is on trial, and is undone if the return falls. Only keys in "settings" can be changed, none that
is in "probation", at most {PROPOSALS_MAX} at a time, the most urgent first, each within its bounds. "value" is the new
value, not a difference. "target" is the reward term or rule after the dot of the key, or "". "because" names the facts
that speak for it. "earlier" tells what became of what was proposed before: "effect" is the change of the return at the
gate since, with its 95 % interval from "low" to "high", null where nothing has judged it yet. Do not repeat what was
refused or undone. The actions:
"""
SCENARIOS: Final = f"""\
You choose variations of an environment, in which a policy is trained in half of its episodes, so that it does better
in the environment as it is. You get numbers as JSON: "bounds" has the lowest and highest value of what may be varied,
"loss" how much return a simple rule loses to the best plan where nothing is varied, "losses" where one value is
extreme. Answer with {PROPOSED} different scenarios. Each has every value, within its bounds.
"""
BECAUSE_MAX: Final = 4
"""Facts of a reason; without bounds a small model goes on until its tokens are spent."""
FACTS: Final = LearningFacts.__struct_fields__


class Advice(Struct, frozen=True, forbid_unknown_fields=True):
    """One change, as the model states it."""

    change: str
    target: str
    value: float
    because: list[str]


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What the model answers."""

    changes: list[Advice]


class ProposedScenarios(Struct, frozen=True, forbid_unknown_fields=True):
    """What the model would train on besides."""

    scenarios: list[dict[str, float]]


def schema(facts: LearningFacts) -> dict[str, Any]:
    """Return the JSON Schema that the model is held to: the actions and targets that these facts allow."""
    keys = [key.partition(".") for key in facts.settings]
    advice = {
        "change": {"type": "string", "enum": sorted({change for change, _, _ in keys})},
        "target": {"type": "string", "enum": sorted({"", *(target for _, _, target in keys)})},
        "value": {"type": "number"},
        "because": {"type": "array", "maxItems": BECAUSE_MAX, "items": {"type": "string", "enum": list(FACTS)}},
    }
    return _object({"changes": {"type": "array", "maxItems": PROPOSALS_MAX, "items": _object(advice)}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def instructions(facts: LearningFacts) -> str:
    """Return the system's message: the task, and the table of the actions that this learner has."""
    known = {key.partition(".")[0] for key in facts.settings}
    return INSTRUCTIONS + "\n".join(_line(name) for name in ACTIONS if name in known)


def _line(name: str) -> str:
    action = ACTIONS[name]
    most = f"at most {action.ratio:g} times or a part of {action.ratio:g}" if action.ratio else f"by {action.step:g}"
    whole = ", a whole number" if action.whole else ""
    return f"- {name}: {action.description}; {action.low:g} to {action.high:g}{whole}; {most} at once"


class OpenAIAdvisor(Backend):
    """A model behind the advisor's port."""

    def __init__(self, client: "OpenAIClient") -> None:
        self.name = f"openai:{client.settings.model}"
        self._client = client

    def propose(self, facts: LearningFacts) -> list[Proposal]:
        if not facts.settings:
            return []
        question = msgspec.json.encode(facts).decode()
        answer = self._client.ask(instructions(facts), question, "changes", Answer, schema(facts))
        return [
            Proposal(one.change, one.value, one.target, described(facts, one.because))
            for one in answer.changes[:PROPOSALS_MAX]
        ]

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
