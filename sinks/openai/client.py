"""Structured answers from any service that speaks OpenAI's chat completions: one question, one JSON value of a schema.

Everything is bounded: the whole exchange in time, the answer in tokens and in bytes. The key never reaches a message.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import httpx2
import msgspec
import openai
from msgspec import Meta

from headrace.schemas.errors import HeadraceError, LanguageModelError, SettingsError, UnavailableError
from headrace.schemas.url import Url
from headrace.sinks.openai.http_calls import HttpCalls

ATTEMPTS: Final = 2
BACK_OFF_S: Final = 0.5
ANSWER_BYTES: Final = 1 << 20
KEY_VARIABLE: Final = "OPENAI_API_KEY"
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoding JSON may raise; the last where it is nested too deep."""

T = TypeVar("T")


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class ModelSettings(msgspec.Struct, frozen=True):
    """Which model, where, and how much of it. timeout_s: of the whole exchange, retries included."""

    model: str
    base_url: Annotated[str, Meta(pattern="^https?://")] | None = None
    timeout_s: Annotated[float, Meta(ge=0.1, le=600)] = 20.0
    max_tokens: Annotated[int, Meta(ge=16, le=100_000)] = 1_000


class OpenAIClient:
    """A model that answers in JSON. Close it after use."""

    def __init__(self, settings: ModelSettings, key: str) -> None:
        self.settings = settings
        # Retries are counted here: the package's own may wait two minutes where a server says so.
        self._calls = HttpCalls(self._name)
        self._client = openai.OpenAI(
            api_key=key,
            base_url=settings.base_url,
            max_retries=0,
            timeout=settings.timeout_s,
            http_client=self._calls.client,
        )

    def ask(self, instructions: str, question: str, name: str, kind: type[T], schema: Mapping[str, Any]) -> T:
        """Return the answer as `kind`; `schema` (JSON Schema, strict) is what the model is held to.

        Raises UnavailableError where the service is down, slow or busy, LanguageModelError where it refuses the key
        or the request, or where the answer is cut off, refused, or not of the schema.
        """
        json_schema = {"name": name, "strict": True, "schema": dict(schema)}
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": [{"role": "system", "content": instructions}, {"role": "user", "content": question}],
            "response_format": {"type": "json_schema", "json_schema": json_schema},
            "max_completion_tokens": self.settings.max_tokens,
        }
        content = _content(self._exchange(body))
        try:
            return msgspec.json.decode(content, type=kind)
        except UNREADABLE as error:
            raise LanguageModelError(f"{self._name}: the answer is not of the schema ({error})") from error

    def about(self) -> str:
        """Ask the service whether it is there and knows the model; raises as `ask` does."""
        limit_s = min(5.0, self.settings.timeout_s)
        models = self._client.with_options(timeout=limit_s).models.with_streaming_response

        def ask() -> str:
            try:
                with models.retrieve(self.settings.model):  # the status says it; the body is not read
                    return "answers and knows the model"
            except openai.NotFoundError:
                return "answers, but lists no such model"
            except openai.OpenAIError as error:
                raise self._mapped(error) from error

        return self._calls.within(limit_s, ask)

    def _exchange(self, body: dict[str, Any]) -> bytes:
        """Post the request and read the response; again where that may help and time is left."""
        deadline = time.monotonic() + self.settings.timeout_s
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(body, deadline)
            except UnavailableError:
                wait_s = BACK_OFF_S * attempt
                if attempt == ATTEMPTS or time.monotonic() + wait_s >= deadline:
                    raise
                time.sleep(wait_s)
        raise AssertionError

    def _once(self, body: dict[str, Any], deadline: float) -> bytes:
        left_s = max(deadline - time.monotonic(), 0.001)
        return self._calls.within(left_s, lambda: self._post(body, left_s))

    def _post(self, body: dict[str, Any], left_s: float) -> bytes:
        create = self._client.with_options(timeout=left_s).chat.completions.with_streaming_response.create
        try:
            with create(**body) as response:
                return self._read(response.http_response)
        except openai.OpenAIError as error:
            raise self._mapped(error) from error
        except httpx2.HTTPError as error:  # the package maps none that comes while the body is read
            raise UnavailableError(f"{self._name}: the answer broke off ({type(error).__name__})") from error

    def _mapped(self, error: openai.OpenAIError) -> HeadraceError:
        if isinstance(error, openai.APIStatusError):
            # The server's own words are left out: they may repeat the key.
            told = f"{self._name}: HTTP {error.status_code} ({type(error).__name__})"
            busy = error.status_code in {408, 409, 429} or error.status_code >= 500
            return UnavailableError(told) if busy else LanguageModelError(told)
        kind = UnavailableError if isinstance(error, openai.APIConnectionError) else LanguageModelError
        return kind(f"{self._name}: {error}")  # a time-out is a connection error too

    def _read(self, response: httpx2.Response) -> bytes:
        found = bytearray()
        for piece in response.iter_raw():
            found += piece
            if len(found) > ANSWER_BYTES:
                raise LanguageModelError(f"{self._name}: the answer has more than {ANSWER_BYTES} bytes")
        return bytes(found)

    @property
    def _name(self) -> str:
        return f"openai:{self.settings.model}"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _content(body: bytes) -> str:
    try:
        completion = msgspec.json.decode(body, type=_Completion)
    except UNREADABLE as error:
        raise LanguageModelError(f"the service's response is no chat completion ({error})") from error
    if not completion.choices:
        raise LanguageModelError("the service's response has no choices")
    choice = completion.choices[0]
    if choice.message.refusal or not choice.message.content:
        raise LanguageModelError("the model refused to answer")
    if choice.finish_reason not in {"stop", None}:
        raise LanguageModelError(f"the answer was cut off ({choice.finish_reason!r}): raise max_tokens")
    return choice.message.content


def open_client(url: Url, environ: Mapping[str, str] = os.environ) -> OpenAIClient:
    """Open a client of `openai:MODEL?base_url=…&timeout_s=…&max_tokens=…&key_file=…`.

    The key is the content of key_file, or of the file that OPENAI_API_KEY_FILE names, or OPENAI_API_KEY; a service of
    one's own (base_url) may need none. Raises SettingsError.
    """
    if not url.path:
        raise SettingsError("openai: names no model: write openai:MODEL")
    try:
        settings = msgspec.convert({**url.options, "model": url.path}, ModelSettings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{url}: {error}") from error
    key = _key(url.options, environ)
    if not key and not settings.base_url:
        raise SettingsError(
            f"openai:{url.path} needs a key: set {KEY_VARIABLE} or {KEY_VARIABLE}_FILE, or give key_file"
        )
    return OpenAIClient(settings, key or "none")


def _key(options: Mapping[str, str], environ: Mapping[str, str]) -> str:
    path = options.get("key_file") or environ.get(KEY_VARIABLE + "_FILE")
    if path is None:
        return environ.get(KEY_VARIABLE, "").strip()
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the key's file {path} can't be read ({error})") from error
