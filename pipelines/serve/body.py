"""What a request's body is read as: by msgspec, with an error that says what is wrong."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from fastapi import Request

from headrace.pipelines.serve.problems import RefusedError

JSON: Final = "application/json"
Kind = TypeVar("Kind")
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoding raises."""


def content_type(request: Request) -> str:
    """Return the body's media type, JSON where the client does not say it."""
    return request.headers.get("content-type", JSON).partition(";")[0].strip().lower()


async def read_json(request: Request, decode: Callable[[bytes], Kind], limit: int | None = None) -> Kind:
    """Read a body of JSON; raises RefusedError: 413 above limit bytes, 415 for another type, 422 for what is wrong."""
    kind = content_type(request)
    if kind != JSON:
        detail = f"content-type {kind[:80]!r}: this takes {JSON}"
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    body = await request.body()
    if limit is not None and len(body) > limit:
        detail = f"the body has {len(body)} bytes; {limit} are allowed: send less at a time"
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    try:
        return decode(body)
    except UNREADABLE as error:
        raise invalid(f"the body can't be read: {error}") from error


def invalid(detail: str) -> RefusedError:
    """Return the refusal of a body whose content is wrong."""
    return RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
