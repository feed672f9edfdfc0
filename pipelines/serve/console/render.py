"""Pages from templates: everything in them is escaped, what is undefined fails, and errors are told in words."""

import logging
import time
from collections.abc import Callable, Coroutine
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import jinja2
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from typing_extensions import override

from headrace.pipelines.serve.access import Caller
from headrace.pipelines.serve.console import words
from headrace.pipelines.serve.problems import status_of
from headrace.pipelines.serve.site import Site
from headrace.schemas.errors import HeadraceError

logger = logging.getLogger(__name__)

STATIC: Final = Path(__file__).parent.parent / "static"
_TEMPLATES: Final = Path(__file__).parent.parent / "templates"


class PageRoute(APIRoute):
    """A route whose errors are told as a page, with the status and the words that the API has for them."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except HeadraceError as error:
                return error_page(request, status_of(error), str(error))
            except RequestValidationError as error:
                told = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
                return error_page(request, HTTPStatus.UNPROCESSABLE_ENTITY, told)
            except HTTPException as error:
                return error_page(request, error.status_code, str(error.detail))
            except Exception:
                logger.exception("%s %s failed", request.method, request.url.path)
                told = "a fault of headrace's own: its log says where"
                return error_page(request, HTTPStatus.INTERNAL_SERVER_ERROR, told)

        return handled


def error_page(request: Request, status: int, detail: str) -> Response:
    """Tell an error: as a page, or, to a page that asks for a part of itself, as a part."""
    part = request.method == "GET" and "hx-request" in request.headers
    name = "trouble.html.j2" if part else "error.html.j2"
    return page(request, name, status, phrase=HTTPStatus(status).phrase, detail=detail)


def page(request: Request, name: str, status: int = HTTPStatus.OK, **values: Any) -> Response:  # noqa: ANN401
    """Fill a template with values, and with what every page shows: who looks, and how old what they see is."""
    site: Site = request.app.state.site
    caller: Caller = request.state.caller
    view, now_ms = site.view, time.time_ns() // 1_000_000
    text = (
        _environment()
        .get_template(name)
        .render(
            caller=caller,
            can_operate=caller.allows("operate"),
            with_token=bool(caller.token_id),
            now_ms=now_ms,
            read_ms=round(now_ms - 1_000.0 * view.age_s),
            trouble=view.trouble,
            changes=request.app.state.events.state(view),
            **{"here": request.url.path + (f"?{request.url.query}" if request.url.query else "")} | values,
        )
    )
    return HTMLResponse(text, status)


def compile_templates() -> None:
    """Compile the templates before they are asked for."""
    for name in _environment().list_templates():
        _environment().get_template(name)


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        words.figure,
        words.percent,
        words.duration,
        words.begun,
        words.iso,
        words.day_and_time,
        words.clock_time,
    )
    made.filters |= {one.__name__: one for one in filters}
    made.globals |= {"static": _static}
    return made


@cache
def _static(name: str) -> str:
    """Return the address of a static file; it changes with the file."""
    return f"/static/{name}?{sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"
