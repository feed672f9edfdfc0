"""/login: a token is pasted, and kept by the browser where no script can read it."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qsl, quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from headrace.pipelines.serve.access import COOKIE
from headrace.pipelines.serve.console.render import PageRoute, page
from headrace.pipelines.serve.problems import RefusedError
from headrace.pipelines.serve.site import Here

router = APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)

FORM: str = "application/x-www-form-urlencoded"
MOST_FIELDS = 16
COOKIE_S = 30 * 86_400


async def form(request: Request) -> dict[str, str]:
    """Return a form's fields; raises RefusedError for what is none."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"a form is sent as {FORM}")
    try:
        text = (await request.body()).decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
    except ValueError as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the form can't be read: it is no UTF-8, or too long") from error


def place(text: str) -> str:
    """Return where to go after the login: a page of ours, whatever was asked."""
    ours = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and "\\" not in text
    return text[:2_000] if ours else "/"


@router.get("/login")
def login_page(
    request: Request, site: Here, following: Annotated[str, Query(alias="next", max_length=2_000)] = "/"
) -> Response:
    """Ask for a token."""
    return page(request, "login.html.j2", following=place(following), alarm="", needed=site.gate.needs_token())


@router.post("/login")
async def login(request: Request, site: Here) -> Response:
    """Check a token, and let the browser keep it."""
    sent = await form(request)
    following = place(sent.get("next", "/"))
    client = request.client.host if request.client else ""
    try:
        site.gate.caller(sent.get("token", "").strip() or "-", client)
    except RefusedError as refused:
        alarm = str(refused.detail).partition(":")[0]
        return page(request, "login.html.j2", refused.status_code, following=following, alarm=alarm, needed=True)
    answer = RedirectResponse(quote(following, safe="/?&=%.-_~:@"), HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        COOKIE,
        sent["token"].strip(),
        max_age=COOKIE_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/logout")
async def logout(request: Request) -> Response:
    """Let the browser forget the token."""
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer
