"""POST /v1/ask, and explanations of decisions: facts that are computed, and sentences checked against them."""

from http import HTTPStatus
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from headrace.pipelines.ask.answer import Answer
from headrace.pipelines.ask.question import MOST_CHARACTERS, Moment, Question
from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.answers import json_answer
from headrace.pipelines.serve.body import invalid, read_json
from headrace.pipelines.serve.described import gives, takes
from headrace.pipelines.serve.problems import RefusedError
from headrace.pipelines.serve.routes.parameters import Task
from headrace.pipelines.serve.site import Here
from headrace.schemas.records import ID_PATTERN, MAX_TS_MS, Id

router = APIRouter(prefix="/v1", tags=["explanations"])

Of = Literal["why", "importance", "expected", "contrast", "counterfactual", "similar"]
_ID: Final = Query(pattern=ID_PATTERN)


class QuestionAsked(msgspec.Struct, frozen=True):
    """A question in English. task: the one that is asked about, if the question does not name it.

    zone: of times in the question. at_ms: what "now" is; the time of the newest row, if not given.
    """

    question: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_CHARACTERS)]
    task: Id | None = None
    zone: Annotated[str, msgspec.Meta(max_length=64)] = "UTC"
    at_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_TS_MS)] | None = None


_decode: Final = msgspec.json.Decoder(QuestionAsked).decode


@router.post("/ask", summary="Ask a question", responses=gives(Answer), openapi_extra=takes(QuestionAsked))
async def ask(request: Request, site: Here, _: Reads) -> Response:
    """Answer a question about a decision, a version, the fleet or the data, or say in `not_known` what is missing."""
    asked = await read_json(request, _decode, 16_384)
    try:
        zone = ZoneInfo(asked.zone)
    except (KeyError, ValueError, OSError) as error:
        raise invalid(f"zone {asked.zone!r} is no time zone: write one such as Europe/Berlin") from error
    return json_answer(await site.asked(lambda asker: asker.ask(asked.question, zone, asked.task, asked.at_ms)))


@router.get("/tasks/{task}/explanation", summary="Explain a decision", responses=gives(Answer))
async def explanation(
    site: Here,
    _: Reads,
    task: Task,
    agent: Annotated[str, _ID],
    of: Annotated[Of, Query(description="What of it; why: all.")] = "why",
    episode: Annotated[str | None, _ID] = None,
    step: Annotated[int | None, Query(ge=0, le=2**40 - 1)] = None,
    at: Annotated[int | None, Query(ge=1, le=MAX_TS_MS - 1, description="When, ms UTC, instead of a step.")] = None,
) -> Response:
    """Explain what an agent decided, at a step or a time, or last: facts, and sentences that follow from them."""
    site.spec(task)
    moment = None if at is None else Moment(at, at + 1, point=True)
    question = Question(of, task, agent, moment, episode, step)
    answer = await site.asked(lambda asker: asker.answer(question))
    if answer.not_known:
        raise RefusedError(HTTPStatus.NOT_FOUND, f"not known: {answer.not_known}")
    return json_answer(answer)
