"""The local model over HTTP, by OpenAI's protocols, for clients on this machine alone: there is no key.

One question is answered at a time. A few wait; whoever comes then is told to come again.
"""

import logging
import select
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from headrace.schemas.errors import SettingsError
from headrace.sinks.llama.engine import Engine, GoneError
from headrace.sinks.llama.requests import MOST_BYTES, PROTOCOLS, Asked, Reply, RequestError, model_about

logger = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
WAITING: Final = 8
"""Questions that may wait while one is answered."""
CONNECTIONS: Final = 64
IDLE_S: Final = 30.0
"""After so long without a byte a connection is closed."""
STOP_S: Final = 2.0


class LocalServer(ThreadingHTTPServer):
    """Serves until `stop`. Raises SettingsError where the port is taken."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, engine: Engine, port: int) -> None:
        self.engine = engine
        self.stopping = threading.Event()
        self._places = threading.BoundedSemaphore(1 + WAITING)
        self._turn = threading.Lock()
        self._connections = threading.BoundedSemaphore(CONNECTIONS)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise SettingsError(f"port {port} can't be served ({error}): give another --port") from error

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/v1"

    def answer(self, asked: Asked, connection: socket.socket) -> Reply:
        """Let the model answer once it is free; raises RequestError, GoneError."""
        if not self._places.acquire(blocking=False):
            raise RequestError(429, f"{WAITING} questions wait already")
        try:
            with self._turn:
                return self.engine.answer(asked, lambda: self.stopping.is_set() or _hung_up(connection))
        finally:
            self._places.release()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        error = sys.exception()
        level = logging.DEBUG if isinstance(error, OSError) else logging.ERROR  # a client that went is none
        logger.log(level, "a connection broke off", exc_info=error)

    def stop(self) -> None:
        """End `serve_forever`, which may run in this very thread; the answer in the making is given up."""
        self.stopping.set()
        threading.Thread(target=self.shutdown, name="stop", daemon=True).start()

    def close(self) -> None:
        """Free the port and the model."""
        self.server_close()
        if self._turn.acquire(timeout=STOP_S):
            self.engine.close()


class _Handler(BaseHTTPRequestHandler):
    server: LocalServer
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    wbufsize = -1  # head and body in one packet: a second one would wait for the first one's acknowledgement
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        name = self.server.engine.name
        if self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [model_about(name)]})
        elif unquote(self.path) == f"/v1/models/{name}":
            self._send(200, model_about(name))
        else:
            self._refuse(RequestError(404, f"there is only the model {name}"))

    def do_POST(self) -> None:
        try:
            self._send(200, self._answered(self._body()))
        except RequestError as error:
            self._refuse(error)
        except GoneError:
            self.close_connection = True

    def _body(self) -> bytes:
        length = self.headers.get("content-length", "")
        if not length.isdecimal():
            raise RequestError(411, "content-length is missing")
        if int(length) > MOST_BYTES:
            raise RequestError(413, f"a request has at most {MOST_BYTES} bytes")
        return self.rfile.read(int(length))

    def _answered(self, body: bytes) -> dict[str, Any]:
        protocol, name = PROTOCOLS.get(self.path), self.server.engine.name
        if protocol is None:
            raise RequestError(404, f"served are {', '.join(PROTOCOLS)}")
        asked = protocol.asked(body)
        if asked.model != name:
            raise RequestError(404, f"there is only the model {name}")
        return protocol.reply(name, self.server.answer(asked, self.connection))

    def _refuse(self, error: RequestError) -> None:
        self.close_connection = True  # its body may not have been read
        self._send(error.status, {"error": {"message": str(error), "type": "invalid_request_error"}})

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = msgspec.json.encode(content)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if status == 429:
            self.send_header("retry-after", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base's name
        logger.debug(format, *args)


def _hung_up(connection: socket.socket) -> bool:
    """Whether the client has closed the connection: then it can be read, and nothing comes."""
    try:
        readable, _, _ = select.select([connection], [], [], 0.0)
        return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True
