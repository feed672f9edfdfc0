"""Answers that are too long for memory: read on by a thread only as fast as the client takes them, and so many."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Final

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from headrace.pipelines.serve.problems import RETRY_AFTER_S, RefusedError
from headrace.schemas.errors import HeadraceError

logger = logging.getLogger(__name__)

SEND_S: Final = 30.0
"""A client that takes nothing for so long is left."""
CHUNK_BYTES: Final = 65_536


class Slots:
    """So many of a kind at a time. in_use: how many there are now."""

    def __init__(self, most: int, what: str) -> None:
        self.most, self.what, self.in_use = most, what, 0

    def take(self) -> None:
        """Take one, to be given back; raises RefusedError (503) where all are in use. On the event loop."""
        if self.in_use >= self.most:
            detail = f"{self.most} {self.what} are open, and no more are allowed: try again, or end some"
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(RETRY_AFTER_S)})
        self.in_use += 1

    def give(self) -> None:
        """Give one back."""
        self.in_use -= 1


class Streamed(Response):
    """Chunks, of which the first is made before the answer begins, so that what fails then has a status of its own.

    What fails later ends the connection before the answer is complete, as a client can see. ended: is called once.
    """

    def __init__(
        self,
        first: bytes,
        chunks: Iterator[bytes],
        media_type: str,
        ended: Callable[[], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(None, headers=dict(headers or {}), media_type=media_type)
        del self.headers["content-length"]
        self._first, self._chunks, self._ended = first, chunks, ended

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            chunk: bytes | None = self._first
            while chunk is not None and not gone.done():
                async with asyncio.timeout(SEND_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await run_in_threadpool(next, self._chunks, None)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            logger.info("a client took nothing of %s for %g s, and was left", scope["path"], SEND_S)
        except HeadraceError as error:
            logger.warning("%s ends before its end: %s", scope["path"], error)
        finally:
            gone.cancel()
            self._ended()


async def _gone(receive: Receive) -> None:
    """Wait until the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def streamed(
    slots: Slots, chunks: Callable[[], Iterator[bytes]], media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return chunks as an answer; chunks: begins to make them, in a thread. Raises RefusedError (503)."""
    slots.take()
    try:
        made = chunks()
        first = await run_in_threadpool(next, made, b"")
    except BaseException:
        slots.give()
        raise
    return Streamed(first, made, media_type, slots.give, headers)


def in_chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join parts to chunks that are worth a message each."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
