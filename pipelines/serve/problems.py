"""Errors as problem+json (RFC 9457), in the words of the command line."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from headrace.schemas import errors

logger = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 2
"""When to ask again, where a dependency is down."""
STATUS: Final[Mapping[type[errors.HeadraceError], HTTPStatus]] = {
    errors.SettingsError: HTTPStatus.BAD_REQUEST,
    errors.RejectedDataError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidTaskError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidRulesError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownTaskError: HTTPStatus.NOT_FOUND,
    errors.UnknownPolicyError: HTTPStatus.NOT_FOUND,
    errors.UnknownRecordError: HTTPStatus.NOT_FOUND,
    errors.InvalidTokenError: HTTPStatus.NOT_FOUND,
    errors.UnknownTopicError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.CommitConflictError: HTTPStatus.CONFLICT,
    errors.MissingChunkError: HTTPStatus.GONE,
}
"""By class, the nearest one in an error's own line of classes; any other error is 500."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an error says. type: a name that does not change. detail: what failed, and the remedy.

    errors: each fault of the request's parameters. items: each item of a body that is at fault, the first ones.
    """

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    errors: tuple[str, ...] = ()
    items: tuple[Any, ...] = ()


class RefusedError(HTTPException):
    """A request that is refused before or by its route."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


def answered(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:  # noqa: ANN401
    """Return a problem as a response."""
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, **more)
    return Response(msgspec.json.encode(problem), status, dict(headers or {}), MEDIA_TYPE)


def status_of(error: errors.HeadraceError) -> HTTPStatus:
    """Return the status that an error of headrace has."""
    known = (STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return next(known, HTTPStatus.INTERNAL_SERVER_ERROR)


async def _of_headrace(_request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.HeadraceError)
    status = status_of(error)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    kind = type(error).__name__.removesuffix("Error")
    items = getattr(error, "items", ())
    return answered(status, str(error), headers, type=f"urn:headrace:{kind}", items=items)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return answered(error.status_code, str(error.detail), error.headers)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = tuple(f"{'.'.join(map(str, one['loc'][1:])) or one['loc'][0]}: {one['msg']}" for one in error.errors())
    return answered(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(told), errors=told)


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = "a fault of headrace's own: its log says where"
    return answered(HTTPStatus.INTERNAL_SERVER_ERROR, detail)


def add_problems(app: FastAPI) -> None:
    """Let every error of the application be told as a problem."""
    app.add_exception_handler(errors.HeadraceError, _of_headrace)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
