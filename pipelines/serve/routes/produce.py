"""POST /v1/transitions: what agents did, onto the log."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from headrace.pipelines.serve.access import Produces
from headrace.pipelines.serve.answers import json_answer
from headrace.pipelines.serve.arriving import NDJSON, Accepted
from headrace.pipelines.serve.body import JSON, content_type
from headrace.pipelines.serve.described import BYTES, TEXT, gives, reference, takes
from headrace.pipelines.serve.site import Here
from headrace.schemas import codec_arrow
from headrace.schemas.codec_json import Row

router = APIRouter(prefix="/v1", tags=["acting"])

_ONE = reference(Row)
_BODY = {
    JSON: {"anyOf": [_ONE, {"type": "array", "items": _ONE, "minItems": 1}]},
    NDJSON: TEXT,
    codec_arrow.CONTENT_TYPE: BYTES,
}


@router.post(
    "/transitions",
    status_code=202,
    summary="Send transitions",
    responses=gives(Accepted, "They are on the log, durably; ingest takes them in.", 202),
    openapi_extra=takes(_BODY),
)
async def transitions(
    request: Request,
    site: Here,
    _: Produces,
    quarantine: Annotated[
        bool, Query(description="Send also what will be rejected, into the quarantine, where something is good.")
    ] = False,
) -> Response:
    """Append transitions to the log: one, an array, a line each, or an Arrow stream of a task's.

    They are judged first, by the very rules of ingest. Where one would be rejected nothing is sent, and the answer
    (422) names each by its place and its rule. What was answered with 202 is durable; after a
    503, or no answer, send again: ingest drops a transition that it has.
    """
    body = await request.body()
    taken = await run_in_threadpool(site.arrivals.take, body, content_type(request), quarantine=quarantine)
    return json_answer(taken, 202)
