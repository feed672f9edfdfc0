"""/unsubscribe/TOKEN: how a reader ends a digest, by one click in the mail (RFC 8058) or by a page that asks.

Nobody logs in for it: the token in the link says whose digest it is. To look changes nothing, as scanners of mail do.
"""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, Response

from headrace.pipelines.serve.console.render import PageRoute, page
from headrace.pipelines.serve.problems import RefusedError
from headrace.pipelines.serve.site import Here, Site
from headrace.pipelines.wiring import subscriber_of, unsubscribe

router = APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)

PER_SECOND: Final = 5
"""Links, from one address: each reads the log."""
Token = Annotated[str, Path(max_length=100)]


@router.get("/unsubscribe/{token}")
def ask(request: Request, site: Here, token: Token) -> Response:
    """Ask whether a digest is to end."""
    _require_rate(request, site)
    found = subscriber_of(site.services, token)
    return page(request, "unsubscribe.html.j2", task=found.task, active=found.state == "active", here="")


@router.post("/unsubscribe/{token}")
def end(request: Request, site: Here, token: Token) -> Response:
    """End a digest; a second time changes nothing."""
    _require_rate(request, site)
    found = unsubscribe(site.services, token)
    return page(request, "unsubscribe.html.j2", task=found.task, active=False, here="")


def _require_rate(request: Request, site: Site) -> None:
    client = request.client.host if request.client else ""
    if not site.gate.rates.take(f"unsubscribe {client}", PER_SECOND):
        raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "too many links at a time: try again in a second")
