"""GET /events: says that something changed, at most once a second, and that it is there, to each page that is open."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.console.render import PageRoute
from headrace.pipelines.serve.problems import RefusedError
from headrace.pipelines.serve.site import Here
from headrace.pipelines.serve.view import View

router = APIRouter(route_class=PageRoute, include_in_schema=False)

MOST_STREAMS: Final = 1_000
ALIVE_S: Final = 10.0
"""A page that hears nothing for more than twice as long says that the connection is lost."""
APART_S: Final = 1.0


class Streams:
    """The streams that are open, none of which looks at the log itself. run: tells this server from its next one."""

    def __init__(self) -> None:
        self.open = 0
        self.run = secrets.token_hex(4)

    def state(self, view: View) -> str:
        """Name what a page that is made now shows."""
        return f"{self.run}.{view.changes}"

    async def follow(self, view: View) -> AsyncIterator[bytes]:
        """Tell of changes until the server ends, or the page goes away."""
        self.open += 1
        try:
            seen = view.changes
            yield self._event("changed", seen)
            while not view.ended:
                changes = await view.changed(seen, ALIVE_S)
                yield self._event("alive" if changes == seen else "changed", changes)
                if changes != seen:
                    seen = changes
                    await asyncio.sleep(APART_S)
        finally:
            self.open -= 1

    def _event(self, name: str, changes: int) -> bytes:
        return f"event: {name}\ndata: {self.run}.{changes}\n\n".encode()


@router.get("/events")
async def events(request: Request, site: Here, _: Reads) -> Response:
    """Follow the log."""
    streams: Streams = request.app.state.events
    if streams.open >= MOST_STREAMS:
        told = f"{MOST_STREAMS:,} pages follow the log already: close some"
        raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, told, {"Retry-After": "5"})
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(streams.follow(site.view), headers=headers, media_type="text/event-stream")
