"""Structured answers from any service that speaks OpenAI's protocols: one question, one JSON value of a schema.

Everything is bounded: the whole exchange in time, the answer in tokens and in bytes. The key never reaches a message.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import httpx2
import msgspec
import openai
from msgspec import Meta

from headrace.schemas.errors import (
    HeadraceError,
    LanguageModelError,
    SettingsError,
    UnavailableError,
    UnreadableAnswerError,
)
from headrace.schemas.url import Url
from headrace.sinks.openai.http_calls import HttpCalls
from headrace.sinks.openai.protocols import CHAT, RESPONSES, UNREADABLE, Asked, ProtocolOfService

ATTEMPTS: Final = 2
BACK_OFF_S: Final = 0.5
ANSWER_BYTES: Final = 1 << 20
KEY_VARIABLE: Final = "OPENAI_API_KEY"
OPENAI_HOST: Final = "api.openai.com"
CHARACTERS_A_TOKEN: Final = 3
"""For what a service does not count; fewer than most texts have, so that a budget is spent rather too soon."""

T = TypeVar("T")


class ModelSettings(msgspec.Struct, frozen=True):
    """Which model, where, and how much of it. timeout_s: of the whole exchange, retries included."""

    model: str
    base_url: Annotated[str, Meta(pattern="^https?://")] | None = None
    timeout_s: Annotated[float, Meta(ge=0.1, le=600)] = 20.0
    max_tokens: Annotated[int, Meta(ge=16, le=100_000)] = 1_000


class Usage(NamedTuple):
    """Tokens so far, estimated where the service does not count them."""

    tokens_in: int = 0
    tokens_out: int = 0

    def __add__(self, other: object) -> "Usage":
        assert isinstance(other, Usage)
        return Usage(self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out)


class _NoSuchPathError(LanguageModelError):
    """Of the service, or no such model: it says the same of both."""


class OpenAIClient:
    """A model that answers in JSON. Close it after use. usage: what all questions have cost."""

    def __init__(self, settings: ModelSettings, key: str) -> None:
        self.settings = settings
        self.usage = Usage()
        # Retries are counted here: the package's own may wait two minutes where a server says so.
        self._calls = HttpCalls(self._name)
        self._client = openai.OpenAI(
            api_key=key,
            base_url=settings.base_url,
            max_retries=0,
            timeout=settings.timeout_s,
            http_client=self._calls.client,
        )
        official = self._client.base_url.host == OPENAI_HOST
        self._protocols: tuple[ProtocolOfService, ...] = (RESPONSES, CHAT) if official else (CHAT, RESPONSES)

    def ask(
        self,
        instructions: str,
        question: str,
        name: str,
        kind: type[T],
        schema: Mapping[str, Any],
        *,
        more: Sequence[tuple[str, str]] = (),
        limit_s: float | None = None,
    ) -> T:
        """Return the answer as `kind`; `schema` (JSON Schema, strict) is what the model is held to.

        more: turns after the question, each a role and a text. limit_s: less than the setting's time-out.

        Raises UnavailableError where the service is down, slow or busy, LanguageModelError where it refuses the key
        or the request, or where the answer is cut off or refused, UnreadableAnswerError where it is not of the schema.
        """
        asked = Asked(instructions, (("user", question), *more), name, schema)
        limit_s = self.settings.timeout_s if limit_s is None else min(limit_s, self.settings.timeout_s)
        content = self._exchange(asked, time.monotonic() + limit_s)
        try:
            return msgspec.json.decode(content, type=kind)
        except UNREADABLE as error:
            raise UnreadableAnswerError(f"{self._name}: the answer is not of the schema ({error})") from error

    def about(self) -> str:
        """Ask the service whether it is there and knows the model; raises as `ask` does."""

        def asked(service: openai.OpenAI) -> str:
            try:
                with service.models.with_streaming_response.retrieve(self.settings.model):
                    return "answers and knows the model"  # the status says it; the body is not read
            except openai.NotFoundError:
                return "answers, but lists no such model"

        return self.call(asked, min(5.0, self.settings.timeout_s))

    def call(self, function: Callable[[openai.OpenAI], T], limit_s: float) -> T:
        """Return what a function makes of the package's own client within a time; raises as `ask` does."""

        def mapped() -> T:
            try:
                return function(self._client.with_options(timeout=limit_s))
            except openai.OpenAIError as error:
                raise self._mapped(error) from error

        return self._calls.within(limit_s, mapped)

    def _exchange(self, asked: Asked, deadline: float) -> str:
        """Ask by the protocol that the service is known to have; until then by the likelier one first."""
        for protocol in tuple(self._protocols):
            body = protocol.body(self.settings.model, self.settings.max_tokens, asked)
            spent = Usage(asked.size // CHARACTERS_A_TOKEN, self.settings.max_tokens)
            try:
                reply = protocol.read(self._sent(protocol, body, deadline))
            except _NoSuchPathError:
                continue
            except HeadraceError as error:
                # A service that refused has made nothing; one that was given up may have, and charge for it.
                cause = error.__cause__
                never = isinstance(cause, openai.APIConnectionError) and not isinstance(cause, openai.APITimeoutError)
                self.usage += Usage() if never or isinstance(cause, openai.APIStatusError) else spent
                raise
            self._protocols = (protocol,)
            made = len(reply.content) // CHARACTERS_A_TOKEN + 1
            self.usage += Usage(
                spent.tokens_in if reply.tokens_in is None else reply.tokens_in,
                made if reply.tokens_out is None else reply.tokens_out,
            )
            return reply.content
        raise LanguageModelError(f"{self._name}: HTTP 404: the service has neither the path nor the model")

    def _sent(self, protocol: ProtocolOfService, body: dict[str, Any], deadline: float) -> bytes:
        """Post the request and read the response; again where that may help and time is left."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(protocol, body, deadline)
            except UnavailableError:
                wait_s = BACK_OFF_S * attempt
                if attempt == ATTEMPTS or time.monotonic() + wait_s >= deadline:
                    raise
                time.sleep(wait_s)
        raise AssertionError

    def _once(self, protocol: ProtocolOfService, body: dict[str, Any], deadline: float) -> bytes:
        left_s = max(deadline - time.monotonic(), 0.001)
        return self._calls.within(left_s, lambda: self._post(protocol, body, left_s))

    def _post(self, protocol: ProtocolOfService, body: dict[str, Any], left_s: float) -> bytes:
        resource: Any = reduce(getattr, protocol.resource, self._client.with_options(timeout=left_s))
        create = resource.with_streaming_response.create
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
            if error.status_code in {404, 405, 501}:
                return _NoSuchPathError(told)
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
        self._client.close()


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
