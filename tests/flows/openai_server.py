"""A loopback server that speaks OpenAI's two protocols for real, over HTTP, and can misbehave on demand.

It checks what a client must send (bearer key, model, messages, strict JSON Schema, a bound of tokens), keeps each
request, and answers as its `behaviour` says.
"""

import json
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

import jsonschema

from headrace.schemas.url import Url, parse_url

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
KEY = "sk-loopback-1234"
MODEL = "small"


def openai_url(model: str, options: dict[str, str]) -> Url:
    return parse_url(f"openai:{model}?{urlencode(options)}" if options else f"openai:{model}")


def change(choice="learning_rate much less", because=("td_abs",)):
    return {"change": choice, "because": list(because)}


class Server(ThreadingHTTPServer):
    """requests: the bodies received. behaviour: (request's body) -> what is answered, see `Handler._say`.

    protocols: the paths that it has; paths: those that were asked for. about: what is answered where the model is
    asked for, if not that it is known. poured: bytes that `pour` could send.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.headers, self.paths = [], [], []
        self.behaviour = lambda _: {"changes": []}
        self.about, self.poured = None, 0
        self.protocols = {CHAT}

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), OSError):  # a client that has gone is what the tests are about
            super().handle_error(request, client_address)

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.server.about:
            return self._say(self.server.about)
        known = self.path == f"/v1/models/{MODEL}"
        body = {"id": MODEL, "object": "model", "created": 0, "owned_by": "loopback"}
        return self._send(200 if known else 404, body if known else {"error": {"message": "no such model"}})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.append(self.path)
        if self.path not in self.server.protocols:
            return self._send(404, {"error": {"message": "no such path"}})
        self.server.requests.append(body)
        self.server.headers.append(dict(self.headers))
        request = json.loads(body)
        if self.headers.get("authorization") != f"Bearer {KEY}":
            message = f"Incorrect API key provided: {self.headers.get('authorization')}"
            return self._send(401, {"error": {"message": message, "code": "invalid_api_key"}})
        problem = self._problem(request)
        if problem:
            return self._send(400, {"error": {"message": problem}})
        return self._say(self.server.behaviour(request))

    def _problem(self, request):
        """What the real service would refuse."""
        if self.path == RESPONSES:
            format_, bound, stored = request["text"]["format"], request["max_output_tokens"], request.get("store", True)
            json_schema = format_
        else:
            format_, bound, stored = request["response_format"], request["max_completion_tokens"], False
            json_schema = format_["json_schema"]
        if format_["type"] != "json_schema" or json_schema["strict"] is not True:
            return "a strict json_schema is needed"
        if request["model"] != MODEL or bound < 1 or stored is not False:
            return "model, bound of tokens or store"
        schema = json_schema["schema"]
        jsonschema.Draft202012Validator.check_schema(schema)
        return None if all(map(self._strict, self._objects(schema))) else "an object of the schema is not strict"

    def _objects(self, schema):
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                yield schema
            for value in schema.values():
                yield from self._objects(value)

    def _strict(self, schema):
        return schema["additionalProperties"] is False and schema["required"] == list(schema["properties"])

    def _say(self, answer):
        """bytes: raw content; str: the message; dict: JSON content; tuple (status, dict, headers); callable: itself."""
        if callable(answer):
            return answer(self)
        if isinstance(answer, tuple):
            return self._send(*answer)
        if isinstance(answer, bytes):
            return self._send(200, answer)
        content = answer if isinstance(answer, str) else json.dumps(answer)
        return self._send(200, completion(content) if self.path == CHAT else response(content))

    def _send(self, status, body, headers=()):
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def pour(self, head, piece, pause_s=0.05, limit_s=5):
        """Send the head, then the piece again and again until the client has gone: longer than anybody waits."""
        self.close_connection = True
        end = time.monotonic() + limit_s
        try:
            self.wfile.write(head)
            while time.monotonic() < end:
                self.wfile.write(piece)
                self.server.poured += len(piece)
                time.sleep(pause_s)
        except OSError:
            pass

    def log_message(self, *_):
        pass


def completion(content, finish_reason="stop", refusal=None):
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [choice],
        "usage": usage,
    }


def response(content, status="completed", reason=None, refusal=None):
    """Of the Responses API."""
    part = {"type": "refusal", "refusal": refusal} if refusal else {"type": "output_text", "text": content}
    message = {"type": "message", "id": "m", "role": "assistant", "status": status, "content": [part]}
    return {
        "id": "r",
        "object": "response",
        "created_at": 0,
        "model": MODEL,
        "status": status,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": [{"type": "reasoning", "id": "t", "summary": []}, message],
        "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
    }


def turns(request):
    """The texts after the instructions, by either protocol."""
    return [turn["content"] for turn in request.get("input") or request["messages"][1:]]


def told(request, texts=None):
    """An answer as a good model gives it: a sentence on each of the first facts, or the given texts by alias."""
    facts = json.loads(turns(request)[0])["facts"][:3]
    texts = texts or {fact["id"]: "Of {name} it is {}." for fact in facts}
    stances = {fact["id"]: fact.get("direction", "level") for fact in json.loads(turns(request)[0])["facts"]}
    return {
        "sentences": [
            {"fact": alias, "stance": stances.get(alias, "level"), "text": text} for alias, text in texts.items()
        ]
    }


@contextmanager
def running():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
