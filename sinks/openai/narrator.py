"""A language model as the narrator: it gets facts under aliases, and answers with sentences that cite them."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from headrace.schemas.errors import SettingsError
from headrace.schemas.narration import single
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.answer import Answer, AnswerSentence
from headrace.schemas.narration.model import Again, Ask, Limits
from headrace.schemas.narration.question import INSTRUCTIONS, answer_schema, question
from headrace.schemas.ports import Adapter, Backend
from headrace.schemas.records import Fact, Facts
from headrace.schemas.url import Url

if TYPE_CHECKING:
    from headrace.sinks.openai.client import OpenAIClient


class OpenAINarrator(Backend):
    """The port `NarrationModel` of any service that speaks OpenAI's protocols."""

    def __init__(self, client: "OpenAIClient", limits: Limits, ask: Ask) -> None:
        self.name = f"openai:{client.settings.model}"
        self.ask: Ask = ask
        self.limits = limits
        self.timeout_s = client.settings.timeout_s
        self._client = client

    @property
    def tokens(self) -> tuple[int, int]:
        return self._client.usage

    def answer(self, facts: Facts, again: Again | None, limit_s: float) -> Answer:
        more: tuple[tuple[str, str], ...] = ()
        schema = answer_schema(facts)
        if again is not None:
            before = msgspec.json.encode(again.answer).decode()
            more = (("assistant", before), ("user", again.complaints))
            schema = answer_schema(facts, again.wanted)
        asked = (INSTRUCTIONS, question(facts), "sentences", Answer, schema)
        return self._client.ask(*asked, more=more, limit_s=limit_s)

    def sentence(self, fact: Fact, aliases: Aliases, limit_s: float) -> AnswerSentence:
        asked = (single.INSTRUCTIONS, single.prompt(fact, aliases), "sentence", single.Said)
        said = self._client.ask(*asked, single.schema(fact, aliases), limit_s=limit_s)
        return single.answered(said, fact, aliases)

    def about(self) -> str:
        return self._client.about()

    def close(self) -> None:
        self._client.close()


def open_narrator(url: Url, *_: object, environ: Mapping[str, str] = os.environ) -> OpenAINarrator:
    """Open the narrator; raises SettingsError."""
    from headrace.sinks.openai.client import open_client  # noqa: PLC0415 a second to load, for jobs that ask nothing

    try:
        limits = msgspec.convert(url.options, Limits, strict=False)
        ask: Ask = msgspec.convert(url.options.get("ask", "report"), Ask)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{url}: {error}") from error
    return OpenAINarrator(open_client(url, environ), limits, ask)


OPTIONS: Final = ("ask", "base_url", "timeout_s", "max_tokens", "key_file", *Limits.__struct_fields__)
ADAPTER: Final = Adapter(open_narrator, OPTIONS, driver="openai>=3")
