"""A loopback server that speaks OpenAI's chat completions for real, over HTTP, and can misbehave on demand.

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

KEY = "sk-loopback-1234"
MODEL = "small"


def openai_url(model: str, options: dict[str, str]) -> Url:
    return parse_url(f"openai:{model}?{urlencode(options)}" if options else f"openai:{model}")


def change(name="learning_rate", value=5e-4, target="", because=("td_abs",)):
    return {"change": name, "target": target, "value": value, "because": list(because)}


class Server(ThreadingHTTPServer):
    """requests: the bodies received. behaviour: (request's body) -> what is answered, see `Handler._say`.

    about: what is answered where the model is asked for, if not that it is known. poured: bytes that `pour` could send.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.headers = [], []
        self.behaviour = lambda _: {"changes": []}
        self.about, self.poured = None, 0

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
        self.server.requests.append(body)
        self.server.headers.append(dict(self.headers))
        request = json.loads(body)
        if self.path != "/v1/chat/completions":
            return self._send(404, {"error": {"message": "no such path"}})
        if self.headers.get("authorization") != f"Bearer {KEY}":
            message = f"Incorrect API key provided: {self.headers.get('authorization')}"
            return self._send(401, {"error": {"message": message, "code": "invalid_api_key"}})
        problem = self._problem(request)
        if problem:
            return self._send(400, {"error": {"message": problem}})
        return self._say(self.server.behaviour(request))

    def _problem(self, request):
        """What the real service would refuse."""
        format_ = request["response_format"]
        if format_["type"] != "json_schema" or format_["json_schema"]["strict"] is not True:
            return "response_format must be a strict json_schema"
        if request["model"] != MODEL or request["max_completion_tokens"] < 1:
            return "model or max_completion_tokens"
        schema = format_["json_schema"]["schema"]
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
        return self._send(200, completion(content))

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
