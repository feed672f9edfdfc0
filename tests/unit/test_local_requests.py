"""What the local model can be asked by OpenAI's protocols, and what is refused before it reaches the model."""

import json

import pytest

from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.question import answer_schema
from headrace.schemas.narration.single import schema
from headrace.schemas.records import Fact, Facts
from headrace.sinks.llama.requests import (
    MOST_TOKENS,
    PROTOCOLS,
    Reply,
    RequestError,
    Turn,
    chat_asked,
    responses_asked,
)
from headrace.sinks.openai.protocols import CHAT, RESPONSES, Asked

FACTS = Facts("t", "s", (Fact("rows.change", "rows", 5.0, "%", direction="up"),))
SCHEMA = schema(FACTS.facts[0], Aliases(FACTS))
QUESTION = Asked("Be brief.", (("user", "Which?"), ("assistant", "No."), ("user", "Again.")), "sentence", SCHEMA)
TURNS = (Turn("system", "Be brief."), Turn("user", "Which?"), Turn("assistant", "No."), Turn("user", "Again."))
CLIENTS = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSES}


def test_the_paths_are_those_of_the_client() -> None:
    assert CLIENTS.keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("path", CLIENTS)
def test_what_the_client_sends_is_read(path: str) -> None:
    body = json.dumps(CLIENTS[path].body("small", 300, QUESTION)).encode()
    assert PROTOCOLS[path].asked(body) == ("small", TURNS, SCHEMA, 300)


@pytest.mark.parametrize("path", CLIENTS)
def test_the_client_reads_the_reply(path: str) -> None:
    def encoded(*, whole: bool) -> bytes:
        return json.dumps(PROTOCOLS[path].reply("small", Reply('{"text": "x"}', whole, 90, 12))).encode()

    assert CLIENTS[path].read(encoded(whole=True)) == ('{"text": "x"}', 90, 12)
    with pytest.raises(Exception, match="cut off"):
        CLIENTS[path].read(encoded(whole=False))


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}).encode()


def of_schema(told: object) -> bytes:
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": told}})


def test_text_without_a_schema() -> None:
    assert chat_asked(chat(max_tokens=9)) == ("m", (Turn("user", "x"),), None, 9)
    assert chat_asked(chat(max_completion_tokens=7, max_tokens=9)).max_tokens == 7
    assert chat_asked(chat(max_completion_tokens=10**6)).max_tokens == MOST_TOKENS
    assert responses_asked(b'{"model": "m", "input": "x"}') == ("m", (Turn("user", "x"),), None, MOST_TOKENS)


def test_a_developer_is_the_system() -> None:
    body = {"model": "m", "messages": [{"role": "developer", "content": "x"}]}
    assert chat_asked(json.dumps(body).encode()).turns == (Turn("system", "x"),)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not served"),
        (b"\xff", "not served"),
        (b"[" * 100_000, "not served"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": []}', "length >= 1"),
        (json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}] * 65}).encode(), "length <= 64"),
        (b'{"model": "m", "messages": [{"role": "tool", "content": "x"}]}', "tool"),
        (b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "content"),
        (chat(stream=True), "stream"),
        (chat(max_completion_tokens=0), ">= 1"),
        (chat(response_format={"type": "json_object"}), "json_object"),
        (chat(response_format={"type": "json_schema"}), "has a schema"),
        (of_schema({"type": "string", "pattern": r"^a\.$"}), "escape"),
        (of_schema({"type": "string", "pattern": "^a{1,1001}$"}), "more than 2500"),
        (of_schema({"type": "string", "pattern": "^((a{0,26}b?){0,10}){0,10}$"}), "more than 2500"),
        (of_schema({"type": "string", "pattern": "^a{1000}b{1000}c{501}$"}), "more than 2500"),
        (of_schema({"type": "string", "pattern": "^a{1_0_0_0_0}$"}), "more than 2500"),
        (of_schema({"type": "string", "pattern": "^a{" + "9" * 5_000 + "}$"}), "more than 2500"),
        (of_schema({"anyOf": [{"type": "string", "pattern": "^a{999}$"}] * 21}), "20979 copies"),
        (of_schema({"type": "string", "maxLength": 1_001}), "maxLength of 1001"),
        (of_schema({"type": "array", "items": {"anyOf": [{"type": "string", "minLength": 9_999}]}}), "minLength"),
        (of_schema({"$ref": "https://example.com/x"}), "ref can't be served"),
        (of_schema({"type": "string", "format": "date"}), "format can't be served"),
    ],
)
def test_what_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        chat_asked(body)
    assert refused.value.status == 400


@pytest.mark.parametrize("pattern", ["^((a{0,25}b?){0,10}){0,10}$", "^[({9999})]{3}$", "^a{500}(b|c){500}$", "^a{3,}$"])
def test_a_pattern_whose_counts_are_within_bounds_is_let_through(pattern: str) -> None:
    assert chat_asked(of_schema({"type": "string", "pattern": pattern})).schema


def test_the_schema_of_whole_reports_is_let_through() -> None:
    assert chat_asked(of_schema(answer_schema(FACTS))).schema == answer_schema(FACTS)
