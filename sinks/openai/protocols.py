"""OpenAI's two ways to ask for one JSON value of a schema: the Responses API, and Chat Completions.

Nothing is stored by the service: Responses would keep each by default, Chat Completions does not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from headrace.schemas.errors import LanguageModelError

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoding JSON may raise; the last where it is nested too deep."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question. turns: what follows the instructions, each a role and a text. name: of the schema."""

    instructions: str
    turns: tuple[tuple[str, str], ...]
    name: str
    schema: Mapping[str, Any]

    @property
    def size(self) -> int:
        """How many characters it has."""
        texts = (self.instructions, *(text for _, text in self.turns), msgspec.json.encode(self.schema).decode())
        return sum(map(len, texts))


class Reply(NamedTuple):
    """What came back. tokens_in, tokens_out: as the service counts them; None where it does not."""

    content: str
    tokens_in: int | None = None
    tokens_out: int | None = None


class ProtocolOfService(NamedTuple):
    """resource: of the client, by attributes; body: of (model, max_tokens, question); read: what came."""

    resource: tuple[str, ...]
    body: Callable[[str, int, Asked], dict[str, Any]]
    read: Callable[[bytes], Reply]


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Message(Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Part(Struct):
    type: str
    text: str = ""
    refusal: str = ""


class _Item(Struct):
    type: str
    content: list[_Part] | None = None


class _Incomplete(Struct):
    reason: str | None = None


class _Response(Struct):
    output: list[_Item]
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    usage: _Usage | None = None


def _chat_body(model: str, max_tokens: int, asked: Asked) -> dict[str, Any]:
    turns = (("system", asked.instructions), *asked.turns)
    json_schema = {"name": asked.name, "strict": True, "schema": dict(asked.schema)}
    return {
        "model": model,
        "messages": [{"role": role, "content": text} for role, text in turns],
        "response_format": {"type": "json_schema", "json_schema": json_schema},
        "max_completion_tokens": max_tokens,
    }


def _responses_body(model: str, max_tokens: int, asked: Asked) -> dict[str, Any]:
    json_schema = {"type": "json_schema", "name": asked.name, "strict": True, "schema": dict(asked.schema)}
    return {
        "model": model,
        "instructions": asked.instructions,
        "input": [{"role": role, "content": text} for role, text in asked.turns],
        "text": {"format": json_schema},
        "max_output_tokens": max_tokens,
        "store": False,
    }


def _chat_reply(body: bytes) -> Reply:
    try:
        completion = msgspec.json.decode(body, type=_Completion)
    except UNREADABLE as error:
        raise LanguageModelError(f"the service's response is no chat completion ({error})") from error
    if not completion.choices:
        raise LanguageModelError("the service's response has no choices")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    if choice.message.refusal or not choice.message.content:
        raise LanguageModelError("the model refused to answer")
    if choice.finish_reason not in {"stop", None}:
        raise _cut_off(choice.finish_reason)
    return Reply(choice.message.content, usage.prompt_tokens, usage.completion_tokens)


def _responses_reply(body: bytes) -> Reply:
    try:
        response = msgspec.json.decode(body, type=_Response)
    except UNREADABLE as error:
        raise LanguageModelError(f"the service's response is no response of the Responses API ({error})") from error
    parts = [part for item in response.output if item.type == "message" for part in item.content or ()]
    if response.status not in {"completed", None}:
        raise _cut_off(response.incomplete_details.reason if response.incomplete_details else response.status)
    text = "".join(part.text for part in parts if part.type == "output_text")
    if not text or any(part.type == "refusal" for part in parts):
        raise LanguageModelError("the model refused to answer")
    usage = response.usage or _Usage()
    return Reply(text, usage.input_tokens, usage.output_tokens)


def _cut_off(reason: str | None) -> LanguageModelError:
    return LanguageModelError(f"the answer was cut off ({reason!r}): raise max_tokens")


CHAT: Final = ProtocolOfService(("chat", "completions"), _chat_body, _chat_reply)
RESPONSES: Final = ProtocolOfService(("responses",), _responses_body, _responses_reply)
