"""Ways around the framework, for what is asked all day: its routing and its parameters cost several times the work.

They stand before the routes of the same paths, which describe them, and answer whatever these do not.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from headrace.pipelines.serve.access import Caller
from headrace.pipelines.serve.site import Site
from headrace.pipelines.serve.view import View

MOST_READY: Final = 256
"""Answers, each of 1 MiB at most."""
MOST_BYTES: Final = 1 << 20


class Ready(BaseRoute):
    """Whole answers about a task's windows by path and query, each good until a window is told."""

    def __init__(self, view: View) -> None:
        self.path = "ready"
        self._view = view
        self._kept: OrderedDict[tuple[str, bytes], tuple[str, int, str, Response]] = OrderedDict()

    def keep(self, request: Request, task: str, told: int, answer: Response) -> Response:
        """Note an answer that was made when so much was told of the task's windows."""
        if answer.status_code == HTTPStatus.OK and len(answer.body) <= MOST_BYTES:
            scope = request.scope
            name = scope["path"], scope["query_string"]
            self._kept[name] = task, told, getattr(scope.get("route"), "path", ""), answer
            self._kept.move_to_end(name)
            while len(self._kept) > MOST_READY:
                self._kept.popitem(last=False)
        return answer

    @override
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or scope["method"] != "GET":
            return Match.NONE, {}
        known = self._kept.get((scope["path"], scope["query_string"]))
        if known is None or self._view.task(known[0]).windows_emitted != known[1]:
            return Match.NONE, {}
        caller: Caller = scope["state"]["caller"]
        if not caller.allows("read") or any(name == b"if-none-match" for name, _ in scope["headers"]):
            return Match.NONE, {}
        self.path = known[2]  # by which the request is counted, before anything else runs
        return Match.FULL, {"route": self, "answer": known[3]}

    @override
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: Response = scope["answer"]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": [*answer.raw_headers]})
        await send({"type": "http.response.body", "body": answer.body})


class Direct(BaseRoute):
    """One path and method, answered by a function of the request; what it raises becomes a problem as elsewhere."""

    def __init__(
        self, site: Site, method: str, path: str, answer: Callable[[Request, Site], Awaitable[Response]]
    ) -> None:
        self.path = path
        self._site, self._method, self._answer = site, method, answer

    @override
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["path"] == self.path and scope["method"] == self._method:
            return Match.FULL, {"route": self}
        return Match.NONE, {}

    @override
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive), self._site)
        await response(scope, receive, send)


def ready(request: Request) -> Ready:
    """Return the application's own."""
    found: Ready = request.app.state.ready
    return found


def add_shortcuts(app: FastAPI, site: Site, decide: Callable[[Request, Site], Awaitable[Response]]) -> None:
    """Put the ways around before the application's routes."""
    app.state.ready = Ready(site.view)
    app.router.routes[:0] = [Direct(site, "POST", "/v1/decide", decide), app.state.ready]
