"""GET /metrics, /healthz and /readyz, each scrape answered by a thread beside the job."""

import errno
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final

from prometheus_client.exposition import MetricsHandler
from typing_extensions import override

from headrace.pipelines.service.address import Address
from headrace.pipelines.service.metrics import registry
from headrace.pipelines.service.service import EVERY_JOB, LAG, Service
from headrace.schemas.errors import SettingsError

logger = logging.getLogger(__name__)

REQUESTS_AT_ONCE: Final = 16
_TAKEN: Final = {errno.EADDRINUSE, errno.EACCES}


class _Handler(MetricsHandler):
    timeout = 5
    """Seconds that a client may take."""
    server: "_Server"

    @override
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self.registry = self.server.registry
            super().do_GET()
        elif path == "/healthz":
            self._tell(self.server.service.sick())
        elif path == "/readyz":
            self._tell(self.server.service.unready())
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there are /metrics, /healthz and /readyz\n")

    def _tell(self, trouble: str) -> None:
        status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
        self._answer(status, f"{' '.join(trouble.split()) or 'ok'}\n".encode())

    def _answer(self, status: HTTPStatus, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    @override
    def version_string(self) -> str:
        return "headrace"

    @override
    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("%s: %s", self.client_address[0], format % args)


class _Server(ThreadingHTTPServer):
    """Answers some requests at a time; more are turned away, so that nobody can use up the job's threads."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = REQUESTS_AT_ONCE

    def __init__(self, address: Address, port: int, service: Service) -> None:
        self.service = service
        own = (service.metrics, service.job), (EVERY_JOB, service)
        self.registry = registry(*own, *([((LAG,), service)] if service.positions else []))
        self._slots = threading.BoundedSemaphore(REQUESTS_AT_ONCE)
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        super().__init__((address.host, port), _Handler)

    @override
    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks the DNS for the host's name
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    @override
    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a request of %s failed: %s", client_address, sys.exception())


def _open(address: Address, service: Service) -> _Server | None:
    """Listen at the address or, where it is taken and others will do, at one of the next ports.

    Raises SettingsError where that can't be; where every port is taken that will do, returns None.
    """
    for port in range(address.port, address.port + address.more_ports + 1):
        try:
            return _Server(address, port, service)
        except OSError as error:
            if error.errno not in _TAKEN or not address.more_ports:
                raise SettingsError(
                    f"--metrics {address}: can't listen there ({error.strerror}): give another HOST:PORT, or off"
                ) from error
    return None


@contextmanager
def served(address: Address, service: Service) -> Iterator[None]:
    """Serve metrics and health of a job while the block runs."""
    server = _open(address, service) if address.host else None
    if server is None:
        if address.host:
            logger.warning(
                "no metrics: ports %d to %d of %s are taken; give a free one by --metrics HOST:PORT",
                address.port,
                address.port + address.more_ports,
                address.host,
            )
        yield
        return
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="endpoint", daemon=True)
    thread.start()
    bound = Address(address.host, server.server_address[1])
    logger.info("metrics and health: http://%s/metrics, /healthz, /readyz", bound)
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        service.ends.close()
