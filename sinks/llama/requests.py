"""What is asked of the local model by either of OpenAI's protocols, and what is answered. Pure.

Of the protocols it is what asks for one JSON value of a schema: text alone, no streams, no tools.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from headrace.schemas.errors import HeadraceError
from headrace.sinks.llama.patterns import copies

T = TypeVar("T")

MOST_BYTES: Final = 1 << 18
"""Of a request."""
MOST_TURNS: Final = 64
MOST_TOKENS: Final = 2_048
"""Of an answer."""
MOST_COUNT: Final = 1_000
"""Of any count in a schema."""
PATTERN_COPIES: Final = 2_500
"""That a pattern's counts make: a grammar has a rule for each, and looks at many of them for each letter."""
SCHEMA_COPIES: Final = 20_000
"""That a schema's counts make, all together."""


class RequestError(HeadraceError):
    """A request that is refused. status: of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Turn(Struct, frozen=True):
    """A message, as the model's own template takes it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class Asked(NamedTuple):
    """schema: JSON Schema of the answer; None for free text. max_tokens: of the answer."""

    model: str
    turns: tuple[Turn, ...]
    schema: dict[str, Any] | None
    max_tokens: int


class Reply(NamedTuple):
    """whole: whether the model came to its end before `max_tokens`."""

    text: str
    whole: bool
    tokens_in: int
    tokens_out: int


Turns = Annotated[tuple[Turn, ...], Meta(min_length=1, max_length=MOST_TURNS)]
Bound = Annotated[int, Meta(ge=1)]


class _JsonSchema(Struct, frozen=True, rename={"schema_": "schema"}):
    schema_: dict[str, Any]


class _ChatFormat(Struct, frozen=True):
    type: Literal["text", "json_schema"] = "text"
    json_schema: _JsonSchema | None = None


class _Chat(Struct, frozen=True):
    model: str
    messages: Turns
    response_format: _ChatFormat = _ChatFormat()
    max_completion_tokens: Bound | None = None
    max_tokens: Bound | None = None
    stream: Literal[False] = False


class _TextFormat(Struct, frozen=True, rename={"schema_": "schema"}):
    type: Literal["text", "json_schema"] = "text"
    schema_: dict[str, Any] | None = None


class _Text(Struct, frozen=True):
    format: _TextFormat = _TextFormat()


class _Responses(Struct, frozen=True):
    model: str
    input: str | Turns
    instructions: str = ""
    text: _Text = _Text()
    max_output_tokens: Bound | None = None
    stream: Literal[False] = False


def chat_asked(body: bytes) -> Asked:
    """Read a request for a chat completion; raises RequestError."""
    asked = _decoded(body, _Chat)
    told, most = asked.response_format, asked.max_completion_tokens or asked.max_tokens
    schema = told.json_schema.schema_ if told.json_schema else None
    return _asked(asked.model, asked.messages, told.type, schema, most)


def responses_asked(body: bytes) -> Asked:
    """Read a request of the Responses API; raises RequestError."""
    asked = _decoded(body, _Responses)
    turns = (Turn("user", asked.input),) if isinstance(asked.input, str) else asked.input
    if asked.instructions:
        turns = (Turn("system", asked.instructions), *turns)
    return _asked(asked.model, turns, asked.text.format.type, asked.text.format.schema_, asked.max_output_tokens)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RequestError(400, f"the request is not served here: {error}") from error


def _asked(model: str, turns: Turns, kind: str, schema: dict[str, Any] | None, most: int | None) -> Asked:
    if (kind == "json_schema") is (schema is None):
        raise RequestError(400, "a format of type json_schema has a schema, and no other has")
    wrong = next(_refused(schema), None)
    if wrong:
        raise RequestError(400, wrong)
    made = sum(_copies(schema))
    if made > SCHEMA_COPIES:
        raise RequestError(400, f"the schema's counts make {made} copies; at most {SCHEMA_COPIES} can be served")
    turns = tuple(Turn("system", turn.content) if turn.role == "developer" else turn for turn in turns)
    return Asked(model, turns, schema, min(most or MOST_TOKENS, MOST_TOKENS))


def _refused(schema: Any) -> Iterator[str]:
    """Say what in a schema the grammar can't bear."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in {"pattern", "format", "$ref"} and isinstance(value, str):
                yield from _refused_text(name, value)
            elif isinstance(value, int) and not -MOST_COUNT <= value <= MOST_COUNT:
                yield f"{name} of {value}: at most {MOST_COUNT} can be served"
            else:
                yield from _refused(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _refused(value)


def _refused_text(name: str, value: str) -> Iterator[str]:
    if name != "pattern":
        yield f"{name} can't be served"
    elif "\\" in value:
        yield "a pattern with an escape can't be served: write [.] for a dot"
    elif copies(value, PATTERN_COPIES, MOST_COUNT) > PATTERN_COPIES:
        nested = f"its counts, multiplied where they are nested, make more than {PATTERN_COPIES} copies"
        yield f"a pattern repeats something more than {MOST_COUNT} times, or {nested}"


def _copies(schema: Any) -> Iterator[int]:
    """Yield the counts in a schema, and the copies that those in its patterns make."""
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name == "pattern" and isinstance(value, str):
                yield copies(value, PATTERN_COPIES, MOST_COUNT)
            else:
                yield from _copies(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _copies(value)
    elif isinstance(schema, int):
        yield abs(schema)


def chat_reply(model: str, reply: Reply) -> dict[str, Any]:
    """Return what a request for a chat completion is answered with."""
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    finish = "stop" if reply.whole else "length"
    usage = {"prompt_tokens": reply.tokens_in, "completion_tokens": reply.tokens_out}
    return {
        "id": "local",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {**usage, "total_tokens": reply.tokens_in + reply.tokens_out},
    }


def responses_reply(model: str, reply: Reply) -> dict[str, Any]:
    """Return what a request of the Responses API is answered with."""
    status = "completed" if reply.whole else "incomplete"
    part = {"type": "output_text", "text": reply.text, "annotations": []}
    usage = {"input_tokens": reply.tokens_in, "output_tokens": reply.tokens_out}
    return {
        "id": "local",
        "object": "response",
        "created_at": 0,
        "model": model,
        "status": status,
        "incomplete_details": None if reply.whole else {"reason": "max_output_tokens"},
        "output": [{"type": "message", "id": "local", "role": "assistant", "status": status, "content": [part]}],
        "usage": {**usage, "total_tokens": reply.tokens_in + reply.tokens_out},
    }


class ProtocolServed(NamedTuple):
    """How a path's requests are read and answered."""

    asked: Callable[[bytes], Asked]
    reply: Callable[[str, Reply], dict[str, Any]]


PROTOCOLS: Final = {
    "/v1/chat/completions": ProtocolServed(chat_asked, chat_reply),
    "/v1/responses": ProtocolServed(responses_asked, responses_reply),
}


def model_about(model: str) -> dict[str, Any]:
    """Return what is said of the model."""
    return {"id": model, "object": "model", "created": 0, "owned_by": "headrace"}
