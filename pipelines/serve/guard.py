"""What every request passes before its route: its host and origin, its caller, and bounds on its size and time."""

import asyncio
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.pipelines.serve.access import COOKIE, Caller, Gate
from headrace.pipelines.serve.problems import RefusedError, answered
from headrace.schemas.errors import HeadraceError

MAX_BODY_BYTES: Final = 8 << 20
BODY_S: Final = 15.0
"""How long a client may take to send a body."""
OPEN_PATHS: Final = ("/healthz", "/readyz", "/openapi.json", "/static/", "/login", "/logout", "/unsubscribe/")
"""Of these nobody is asked for a token."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PROXIES: Final = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"})
"""What a proxy adds to a request: who sends it need not be on this machine."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not "no-referrer": a browser then says of a form of ours that it comes from nowhere (Origin: null).
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_WRITTEN: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Guard:
    """The outermost part of the application."""

    def __init__(self, app: ASGIApp, gate: Gate, *, loopback: bool) -> None:
        """loopback: whether the address is one of this machine, so that a page elsewhere must not name it."""
        self._app = app
        self._gate = gate
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = _secured(send)
        try:
            scope.setdefault("state", {})["caller"] = self._admitted(scope)
        except RefusedError as refused:
            await _refused(scope, refused)(scope, receive, sent)
        except HeadraceError as error:
            await answered(HTTPStatus.SERVICE_UNAVAILABLE, f"tokens can't be checked: {error}")(scope, receive, sent)
        else:
            await self._app(scope, _bounded(receive), sent)

    def _admitted(self, scope: Scope) -> Caller:
        headers = Headers(scope=scope)
        size = headers.get("content-length", "0")
        if not size.isdecimal() or int(size) > MAX_BODY_BYTES:
            raise _too_large()
        host = headers.get("host", "")
        if self._loopback and host.rpartition(":")[0] not in LOOPBACK and host not in LOOPBACK:
            detail = f"host {host!r}: this server answers to {', '.join(sorted(LOOPBACK))} alone"
            raise RefusedError(HTTPStatus.MISDIRECTED_REQUEST, detail)
        bearer, cookie = _bearer(headers), _cookie(headers)
        if bearer is None and scope["method"] not in SAFE:
            _require_same_origin(headers, host)
        if scope["path"].startswith(OPEN_PATHS):
            return Caller("", ())
        if not self._gate.needs_token() and PROXIES.intersection(headers.keys()):
            detail = "a proxy passes this on, maybe for others, and there is no token: make one first by "
            raise RefusedError(HTTPStatus.UNAUTHORIZED, f"{detail}`headrace token create NAME --scope admin`")
        client = scope.get("client")
        return self._gate.caller(cookie if bearer is None else bearer, client[0] if client else "")


def _refused(scope: Scope, refused: RefusedError) -> Response:
    """Say what is refused; a person's browser is sent to where a token is asked for."""
    headers, path = Headers(scope=scope), scope["path"]
    by_person = refused.status_code == HTTPStatus.UNAUTHORIZED and not path.startswith("/v1/")
    if not by_person or "text/html" not in headers.get("accept", ""):
        return answered(refused.status_code, str(refused.detail), refused.headers)
    query = scope["query_string"].decode("latin-1")
    login = f"/login?next={quote(path + (f'?{query}' if query else ''))}" if scope["method"] in SAFE else "/login"
    if "hx-request" in headers:
        return answered(refused.status_code, str(refused.detail), {"HX-Redirect": "/login"})
    return RedirectResponse(login, HTTPStatus.SEE_OTHER)


def _bearer(headers: Headers) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


def _require_same_origin(headers: Headers, host: str) -> None:
    """Refuse what another site's page sends in a person's name."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if site not in {"same-origin", "none"} or (origin is not None and origin.partition("://")[2] != host):
        detail = f"a page of {origin or 'another site'} may not do that here"
        raise RefusedError(HTTPStatus.FORBIDDEN, detail)


def _too_large() -> RefusedError:
    detail = f"the body is above {MAX_BODY_BYTES >> 20} MiB: send less at a time"
    return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def _bounded(receive: Receive) -> Receive:
    """Bound the body's size, and the time that the client takes to send it."""
    loop, size = asyncio.get_running_loop(), 0
    until_s = loop.time() + BODY_S
    complete = False

    async def received() -> Message:
        nonlocal size, complete
        if complete:
            return await receive()  # what is left is the client's going away
        try:
            async with asyncio.timeout_at(until_s):
                message = await receive()
        except TimeoutError as error:
            raise RefusedError(HTTPStatus.REQUEST_TIMEOUT, f"the body took more than {BODY_S:g} s") from error
        size += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if size > MAX_BODY_BYTES:
            raise _too_large()
        return message

    return received


def _secured(send: Send) -> Send:
    """Add the headers that keep a browser from doing what we would not."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [*message.get("headers", ())]
            names = {name.lower() for name, _ in given}
            message = {**message, "headers": given + [one for one in _WRITTEN if one[0] not in names]}
        await send(message)

    return sent
