"""How answers are written: JSON by msgspec, with an ETag where they stay the same, in pages with a cursor."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from fastapi import Request
from fastapi.responses import Response

from headrace.pipelines.serve.body import JSON
from headrace.pipelines.serve.problems import RefusedError

Item = TypeVar("Item")
encoded: Final = msgspec.json.Encoder(decimal_format="number").encode


def json_answer(content: object, status: int = HTTPStatus.OK) -> Response:
    """Return content as JSON."""
    return Response(encoded(content), status, media_type=JSON)


def lasting(request: Request, content: bytes) -> Response:
    """Return JSON that is told again only if it differs from what the client has."""
    etag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, headers=headers, media_type=JSON)


def page(items: Sequence[Any], following: object | None = None) -> bytes:
    """Return a page as JSON: its items, and the cursor of the page after it, null at the end."""
    return encoded({"items": items, "next": None if following is None else cursor(following)})


def cursor(place: object) -> str:
    """Return a place as the text that asks for what comes after it."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(text: str | None, kind: Any) -> Any:  # noqa: ANN401 a type that msgspec knows
    """Return the place that a cursor names, None for none; raises RefusedError for one that is none of ours."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True), type=kind)
    except (binascii.Error, ValueError, RecursionError) as error:
        detail = f"cursor {text[:80]!r} is none of ours: send `next` of the page before as it was"
        raise RefusedError(HTTPStatus.BAD_REQUEST, detail) from error


def first(items: Iterable[Any], limit: int) -> tuple[list[Any], bool]:
    """Return the first items, and whether there are more."""
    found: list[Any] = []
    for item in items:
        if len(found) == limit:
            return found, True
        found.append(item)
    return found, False


def newest_first(
    items: Iterable[Item],
    order: Callable[[Item], tuple[int, str]],
    limit: int,
    cursor: str | None,
    shown: Callable[[Item], Any] = lambda item: item,
) -> bytes:
    """Return a page of items, the greatest by an order of their own first; cursor: `next` of the page before."""
    before: tuple[int, str] | None = place_of(cursor, tuple[int, str])
    there = sorted(items, key=order, reverse=True)
    found, more = first((one for one in there if before is None or order(one) < before), limit)
    return page([shown(one) for one in found], order(found[-1]) if more else None)
