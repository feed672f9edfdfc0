"""POST /v1/decide: an agent in any language asks what to do."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from headrace.pipelines.serve.access import Decides, require
from headrace.pipelines.serve.answers import json_answer
from headrace.pipelines.serve.body import read_json
from headrace.pipelines.serve.deciding import Decisions, decide, observations
from headrace.pipelines.serve.described import gives, takes
from headrace.pipelines.serve.site import Here, Site
from headrace.schemas.records import ID_PATTERN, Id

router = APIRouter(prefix="/v1", tags=["acting"])

MOST_BYTES: Final = 2 << 20
"""Of a request: the event loop itself reads it."""


class _Asked(msgspec.Struct, frozen=True):
    """obs: float[B][D]. agent_id: who asks, where a canary is to choose among agents."""

    task: str
    obs: msgspec.Raw
    agent_id: Annotated[str, msgspec.Meta(pattern=ID_PATTERN)] = ""


class DecisionRequest(msgspec.Struct, frozen=True):
    """What is asked: the task, and observations, each a number for each of the task's features.

    agent_id: who asks; where a canary is tried, it says whether the agent is one of those that try it.
    """

    task: Id
    obs: list[list[float]]
    agent_id: Annotated[str, msgspec.Meta(pattern=ID_PATTERN)] = ""


_decode: Final = msgspec.json.Decoder(_Asked).decode


@router.post(
    "/decide",
    summary="Ask for actions",
    responses=gives(Decisions),
    openapi_extra=takes(DecisionRequest),
)
async def decisions(request: Request, site: Here, _: Decides) -> Response:
    """Return what the version that serves does for each observation: its best action, always.

    Actions come in the order of `obs`; at most 4096 observations, 2 MiB, a request. A version that was promoted decides
    within a second, and no request fails of it.
    """
    return await answered(request, site)


async def answered(request: Request, site: Site) -> Response:
    """Answer a request to /v1/decide, whoever has routed it."""
    require(request.state.caller, "decide")
    asked = await read_json(request, _decode, MOST_BYTES)
    spec = site.spec(asked.task)
    version = site.deciders.version(spec.task, asked.agent_id)
    return json_answer(decide(version, observations(bytes(asked.obs), spec), spec))
