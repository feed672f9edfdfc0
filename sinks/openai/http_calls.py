"""HTTP calls that end in time, whatever the server sends.

httpx's time-out is one receive's: a server that sends a byte now and then holds a call for as long as it likes. So each
call has a thread of its own, and one that isn't through in time is given up: its connection is shut, which ends it.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import httpx2
import openai

from headrace.schemas.errors import UnavailableError

CONNECTED: Final = (".connect_tcp.complete", ".start_tls.complete")

T = TypeVar("T")


class HttpCalls:
    """Calls by way of `client`, one at a time; each has connections of its own.

    name: of the service, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # Nothing is kept alive, so that what a call has opened is all that it uses. Nothing is compressed, since a few
        # bytes can unpack to gigabytes.
        self.client = openai.DefaultHttpxClient(
            event_hooks={"request": [self._follow], "response": [_leave_unread]},
            headers={"accept-encoding": "identity"},
            limits=httpx2.Limits(max_keepalive_connections=0),
        )
        self._thread = threading.Thread()
        self._streams: list[Any] = []
        self._over = False

    def within(self, limit_s: float, function: Callable[[], T]) -> T:
        """Return what the function returns, and raise what it raises; UnavailableError where it takes longer."""
        if self._thread.is_alive():  # say, while it still looks up a name: there is never more than this one
            raise UnavailableError(f"{self._name}: the call before this one has not ended yet")
        self._over = False
        self._streams.clear()
        found: Future[T] = Future()
        self._thread = threading.Thread(target=_settle, args=(found, function), daemon=True, name="http-call")
        self._thread.start()
        try:
            self._thread.join(limit_s)
            if self._thread.is_alive():
                raise UnavailableError(f"{self._name}: no whole answer within {limit_s:.3g} s")
        finally:
            self._give_up()
        return found.result()

    def _follow(self, request: httpx2.Request) -> None:
        request.extensions["trace"] = self._trace

    def _trace(self, name: str, told: Mapping[str, Any]) -> None:
        """Note the connections that the call opens; one that opens too late is shut before anything is sent."""
        if name.endswith(CONNECTED):
            self._streams.append(told["return_value"])
            if self._over:
                self._give_up()

    def _give_up(self) -> None:
        self._over = True
        for stream in list(self._streams):
            with contextlib.suppress(OSError):  # closed already
                # Closing is the thread's own: a number closed under it may be another file's by the time it reads.
                # SSLSocket's own shutdown would let it read what is encrypted.
                socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)


def _settle(found: Future[T], function: Callable[[], T]) -> None:
    try:
        found.set_result(function())
    except BaseException as error:  # noqa: BLE001 raised where the result is asked for
        found.set_exception(error)


def _leave_unread(response: httpx2.Response) -> None:
    """Take only the status of what is no success: openai and httpx would read the whole body, however long it is."""
    if not response.is_success:
        response.stream.close()  # type: ignore[union-attr]
        response.stream = httpx2.ByteStream(b"")
