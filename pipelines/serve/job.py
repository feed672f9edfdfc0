"""The server as a process: where it listens, what it refuses to begin with, and its clean end."""

import getpass
import logging
import signal
import socket
from types import FrameType
from typing import Final

import uvicorn
from typing_extensions import override

from headrace.pipelines.serve.access import Gate
from headrace.pipelines.serve.app import create_app
from headrace.pipelines.serve.connection import Connection
from headrace.pipelines.serve.site import Site
from headrace.pipelines.serve.view import View
from headrace.pipelines.service.address import Address
from headrace.pipelines.wiring import Services
from headrace.schemas.errors import SettingsError

logger = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 2_000
KEEP_ALIVE_S: Final = 20
"""How long a connection waits for a request's head, the first one too."""
UNREAD_S: Final = 60
"""How long what was sent to a client may lie unread before the connection is cut."""
STOP_S: Final = 3
"""How long requests in hand may take after SIGTERM."""
BACKLOG: Final = 256


def serve(services: Services, address: Address) -> None:
    """Serve until SIGTERM; raises SettingsError for an address that can't be had, or that is open to others."""
    site = Site(services, View(services.log), Gate(services.tokens, services.clock, getpass.getuser()))
    if not address.host:
        raise SettingsError("--address off: a server needs an address; write HOST:PORT")
    if not address.loopback and not site.gate.needs_token():
        raise SettingsError(
            f"--address {address} can be reached by others, and there is no token, so anybody could decide what "
            "serves: make one first by `headrace token create NAME --scope admin`"
        )
    with _listening(address) as listener:
        bound = Address(address.host, listener.getsockname()[1])
        config = uvicorn.Config(
            create_app(site, loopback=address.loopback),
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
            h11_max_incomplete_event_size=16_384,
        )
        logger.info("serve is ready: http://%s, log %s", bound, services.settings.log)
        _Server(config, site.view).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends the streams that pages hold when it is told to end, as it waits for its connections."""

    def __init__(self, config: uvicorn.Config, view: View) -> None:
        super().__init__(config)
        self._view = view

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not uvicorn's own, which ends the process by the signal at last: to be told to end is no failure.
        self._view.end()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With the protocol named asyncio lets no answer wait for an acknowledgement (TCP_NODELAY): 40 ms otherwise.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux has it; connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1_000)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(f"--address {address}: can't listen there ({error.strerror}): give another") from error
    return listener
