"""One client's connection: it is closed unless a request's head is there in time."""

import asyncio
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """Waits for a head no longer than for a connection that is kept alive.

    Uvicorn's own waits for ever for the first head, and every byte begins its wait anew: some thousand connections that
    say nothing, or little, would take all the places there are.
    """

    _late: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    @override
    def on_headers_complete(self) -> None:
        self._await_no_more()
        super().on_headers_complete()

    @override
    def on_response_complete(self) -> None:
        another = bool(self.pipeline)
        super().on_response_complete()
        if not another:
            self._await_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._await_no_more()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._await_no_more()
        self._late = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _await_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
