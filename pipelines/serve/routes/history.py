"""/v1/tasks/{task}/windows, agents, transitions, similar: what happened, from the index."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from headrace.pipelines.query import similar as similarity
from headrace.pipelines.query.agents import agents as seen_agents
from headrace.pipelines.query.scan import Selection, transition_batches
from headrace.pipelines.query.similar import StepKey
from headrace.pipelines.query.windows import windows as newest_windows
from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.answers import first, lasting, page, place_of
from headrace.pipelines.serve.body import invalid
from headrace.pipelines.serve.described import BYTES, TEXT, gives, lasts, page_of
from headrace.pipelines.serve.routes.parameters import Agent, Cursor, From, Limit, Task, To
from headrace.pipelines.serve.shortcut import ready
from headrace.pipelines.serve.site import Here, Site
from headrace.pipelines.serve.streaming import in_chunks, streamed
from headrace.schemas import arrow_rows, codec_arrow
from headrace.schemas.codec import encode_json
from headrace.schemas.decisions import MOST_SIMILAR
from headrace.schemas.records import AgentStats, TaskSpec

router = APIRouter(prefix="/v1/tasks/{task}", tags=["history"])

NDJSON: Final = "application/x-ndjson"
MOST_WITH_AGENTS: Final = 20
"""Windows a page, where each has its agents."""
RECENT_WINDOWS: Final = 64
"""Agents are those of so many of the newest windows, unless a time is given."""
SLICE_ROWS: Final = 512
END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""Of Arrow's stream format."""


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """A window over all its groups, or what one agent did in it. agents: by name, where they were asked for."""

    task: str
    start_ms: int
    end_ms: int
    groups: int
    rows: int
    duplicates: int
    totals: AgentStats
    agents: list[AgentStats] = []


class SeenAgent(msgspec.Struct, frozen=True):
    """What an agent has sent. first_ms, last_ms: the starts of its first window and its last. mean_reward: of a row."""

    agent_id: str
    rows: int
    mean_reward: float
    episode_ends: int
    policy_versions: dict[str, int]
    first_ms: int
    last_ms: int


class Followed(msgspec.Struct, frozen=True):
    """What came in the next steps of a decision's episode. end: whether it was terminated or truncated, else null."""

    steps: int
    actions: list[int | list[float]]
    reward_sum: float
    reward_terms: dict[str, float]
    end: str | None


class SimilarDecision(msgspec.Struct, frozen=True):
    """A sampled decision, its distance (0: the same observation), the transition's other fields, and what followed."""

    distance: float
    agent_id: str
    episode_id: str
    step: int
    ts: int
    obs: list[float]
    action: int | list[float]
    reward: float
    followed: Followed


@router.get("/windows", summary="List windows", responses=lasts(page_of(Window)))
async def windows(
    request: Request,
    site: Here,
    _: Reads,
    task: Task,
    agent: Agent = None,
    from_ms: From = None,
    to: To = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    agents: Annotated[bool, Query(description="With each window's agents; at most 20 windows a page then.")] = False,
) -> Response:
    """Return what happened in each closed window, the newest first: rows, rewards, actions, episodes, versions."""
    spec = site.spec(task)
    before: int | None = place_of(cursor, int)
    end_ms = to if before is None else before if to is None else min(before, to)
    count = min(limit, MOST_WITH_AGENTS) if agents else limit
    name = ("windows", task, agent, from_ms, end_ms, count, agents)
    selection = Selection(spec, agent, from_ms, end_ms)
    make = lambda: _windows(site, selection, count, agents=agents)  # noqa: E731
    told = site.view.task(task).windows_emitted
    answer = lasting(request, await site.answers.soon(name, told, make))
    return ready(request).keep(request, task, told, answer)


def _windows(site: Site, selection: Selection, limit: int, *, agents: bool) -> bytes:
    latest_ms = site.services.clock() + site.opened("layout").max_clock_skew_ms
    found, more = first(newest_windows(site.opened("index"), selection, latest_ms), limit)
    if not agents:
        for one in found:
            del one["agents"]
    return page(found, found[-1]["start_ms"] if more else None)


@router.get("/agents", summary="List agents", responses=lasts(page_of(SeenAgent)))
async def agents(
    request: Request,
    site: Here,
    _: Reads,
    task: Task,
    agent: Agent = None,
    from_ms: From = None,
    to: To = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Return who has sent what, by name, open windows included; of the newest 64 windows, unless a time is given.

    As of a second ago at most.
    """
    spec = site.spec(task)
    after: str = place_of(cursor, str) or ""
    newest_ms = max(site.view.task(task).parts, default=None)
    if from_ms is None and to is None and newest_ms is not None:
        from_ms = max(0, newest_ms - (RECENT_WINDOWS - 1) * spec.window_ms)
    name = ("agents", task, agent, from_ms, to, after, limit)
    selection = Selection(spec, agent, from_ms, to)
    second = site.services.clock() // 1_000  # nothing is told of windows that are open
    return lasting(request, await site.answers.soon(name, second, lambda: _agents(site, selection, after, limit)))


def _agents(site: Site, selection: Selection, after: str, limit: int) -> bytes:
    named = (one for one in seen_agents(site.opened("index"), selection) if one["agent_id"] > after)
    found, more = first(named, limit)
    return page(found, found[-1]["agent_id"] if more else None)


@router.get(
    "/transitions",
    summary="Stream transitions",
    responses=gives({NDJSON: TEXT, codec_arrow.CONTENT_TYPE: BYTES}, "As they were sent, in the index's order."),
)
async def transitions(
    request: Request, site: Here, _: Reads, task: Task, agent: Agent = None, from_ms: From = None, to: To = None
) -> Response:
    """Stream transitions, one JSON object a line, or, where `Accept` asks for it, as an Arrow stream.

    They come group by group, and by window and place on the log within; repeated ones once. A stream that ends before
    its end has failed.
    """
    selection = Selection(site.spec(task), agent, from_ms, to)
    arrow = codec_arrow.CONTENT_TYPE in request.headers.get("accept", "")
    chunks = _arrow if arrow else _lines
    media_type = codec_arrow.CONTENT_TYPE if arrow else NDJSON
    return await streamed(site.streams, lambda: in_chunks(chunks(site, selection)), media_type, {"Vary": "Accept"})


def _lines(site: Site, selection: Selection) -> Iterator[bytes]:
    for batch in transition_batches(site.opened("index"), selection):
        for start in range(0, len(batch), SLICE_ROWS):
            part = batch.slice(start, start + SLICE_ROWS)
            yield b"\n".join([*encode_json(part, selection.spec), b""])


def _arrow(site: Site, selection: Selection) -> Iterator[bytes]:
    yield bytes(arrow_rows.schema_of(selection.spec).serialize())
    for batch in transition_batches(site.opened("index"), selection):
        yield bytes(arrow_rows.record_batch(batch, selection.spec).serialize())
    yield END_OF_STREAM


@router.get("/similar", summary="Find similar decisions", responses=gives(page_of(SimilarDecision)))
def similar(
    site: Here,
    _: Reads,
    task: Task,
    obs: Annotated[str | None, Query(max_length=30_000, description="An observation: numbers, commas between.")] = None,
    like: Annotated[str | None, Query(max_length=200, description="A decision: AGENT/EPISODE/STEP.")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_SIMILAR)] = 10,
    steps: Annotated[int, Query(ge=1, le=1_000, description="How far to look on.")] = 10,
) -> Response:
    """Return the sampled decisions taken in states nearest to one, the nearest first, each with what followed."""
    spec = site.spec(task)
    if (obs is None) == (like is None):
        raise invalid("what is looked for is given by obs or by like, one of them")
    index = site.opened("index")
    place = _place(like) if like is not None else None
    wanted = similarity.observation_at(index, spec, place) if place else _observation(obs or "", spec)
    found = [*similarity.similar(index, spec, wanted, limit=limit, steps=steps, apart=place)]
    return Response(page(found), media_type="application/json")


def _place(text: str) -> StepKey:
    parts = text.split("/")
    if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdecimal() and len(parts[2]) < 19):
        raise invalid(f"like {text!r} is not AGENT/EPISODE/STEP, such as agent-1/e7/120")
    return StepKey(parts[0], parts[1], int(parts[2]))


def _observation(text: str, spec: TaskSpec) -> Any:  # noqa: ANN401 float32[D]
    try:
        values = [*map(float, text.split(","))]
    except ValueError as error:
        raise invalid(f"obs {text[:80]!r} is not a list of numbers such as 0.5,-1,2e3") from error
    return similarity.observation(values, spec)
