"""The server of the real small model: both protocols, its bounds, and clients that are rude."""

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import jsonschema
import openai
import pytest

from headrace.schemas.url import parse_url
from headrace.sinks.llama.requests import MOST_BYTES
from headrace.sinks.llama.server import WAITING
from headrace.sinks.openai.narrator import open_narrator

SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string", "pattern": "^[A-Z][a-z]*( [a-z-]+){2,9}[.]$"}},
    "required": ["text"],
    "additionalProperties": False,
}
LONG = {**SCHEMA, "properties": {"text": {"type": "string", "pattern": "^( [a-z]+){300,400}$"}}}
TURNS = [{"role": "system", "content": "Answer in one sentence."}, {"role": "user", "content": "What is rain?"}]


@pytest.fixture
def client(served):
    with openai.OpenAI(api_key="none", base_url=served.base_url, max_retries=0, timeout=120) as opened:
        yield opened


def chat(client, name, schema=SCHEMA, **fields):
    asked = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    return client.chat.completions.create(model=name, messages=TURNS, response_format=asked, **fields)


def test_openais_own_client_knows_the_model(served, client):
    assert [model.id for model in client.models.list()] == [served.name]
    assert client.models.retrieve(served.name).id == served.name
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError):
        chat(client, "other")


def test_both_protocols_answer_by_the_schema_and_alike(served, client):
    completion = chat(client, served.name, max_completion_tokens=200)
    content = completion.choices[0].message.content
    jsonschema.validate(json.loads(content), SCHEMA)
    assert (completion.choices[0].finish_reason, completion.usage.prompt_tokens > 20) == ("stop", True)
    format_ = {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": SCHEMA}}
    response = client.responses.create(
        model=served.name, instructions=TURNS[0]["content"], input=[TURNS[1]], text=format_, store=False
    )
    assert response.output_text == content
    assert response.usage.output_tokens == completion.usage.completion_tokens


def test_an_answer_ends_at_its_bound(served, client):
    completion = chat(client, served.name, LONG, max_completion_tokens=9)
    assert (completion.choices[0].finish_reason, completion.usage.completion_tokens) == ("length", 9)


@pytest.mark.parametrize("pattern", [r"^a\.$", "^[a$", "^a{2000}$", "^(a{0,99}){0,99}$"])
def test_a_schema_that_llama_cpp_dies_of_is_refused(served, client, pattern):
    with pytest.raises(openai.BadRequestError):
        chat(client, served.name, {**SCHEMA, "properties": {"text": {"type": "string", "pattern": pattern}}})
    assert served.process.poll() is None


def raw(served, head):
    """The status of a request that is sent as it is."""
    connection = http.client.HTTPConnection(urlsplit(served.base_url).netloc, timeout=20)
    with closing(connection):
        connection.connect()
        connection.sock.sendall(head)
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        return response.status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /v1/chat/completions HTTP/1.1\r\n\r\n", 411),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (MOST_BYTES + 1), 413),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{]", 400),
        (b"POST /v1/embeddings HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}", 404),
        (b"GET /etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"PUT /v1/models HTTP/1.1\r\n\r\n", 501),
    ],
)
def test_what_is_no_request_is_refused(served, head, status):
    assert raw(served, head) == status


def test_a_client_that_hangs_up_costs_nothing_more(served, client):
    """Its answer would take many seconds; the next one comes at once."""
    chat(client, served.name)
    begun = time.monotonic()
    chat(client, served.name)
    usual_s = time.monotonic() - begun
    body = {"model": served.name, "messages": TURNS, "max_completion_tokens": 400}
    body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": LONG}}
    sent = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(sent)
    parts = urlsplit(served.base_url)
    with socket.create_connection((parts.hostname, parts.port)) as rude:
        rude.sendall(head + sent)
        time.sleep(0.3)
    begun = time.monotonic()
    chat(client, served.name)
    assert time.monotonic() - begun < 3 * usual_s + 1.0


def test_more_than_can_wait_are_sent_away(served, client):
    def status(_):
        try:
            chat(client, served.name, LONG, max_completion_tokens=12)
        except openai.RateLimitError as error:
            return error.response.headers["retry-after"]
        return None

    many = WAITING + 6
    with ThreadPoolExecutor(many) as threads:
        found = list(threads.map(status, range(many)))
    assert "1" in found
    assert found.count(None) >= 1 + WAITING


def test_doctor_asks_it(served):
    with closing(open_narrator(parse_url(served.url), environ={})) as model:
        assert model.about() == "answers and knows the model"
    with closing(open_narrator(parse_url(served.url.replace(served.name, "other")), environ={})) as model:
        assert "no such model" in model.about()
