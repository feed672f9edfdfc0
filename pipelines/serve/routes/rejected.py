"""/v1/tasks/{task}/rejected: what was refused, by which rule and why; sending it again."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import Response

from headrace.pipelines.query.quarantine import (
    RejectedMessage,
    Rejections,
    find,
    origin,
    rejected,
    safe_text,
    summary,
    whole,
)
from headrace.pipelines.query.rejected import LATER_RULES, Replayed, replay
from headrace.pipelines.serve.access import Operates, Reads
from headrace.pipelines.serve.answers import first, json_answer, lasting, page, place_of
from headrace.pipelines.serve.body import invalid
from headrace.pipelines.serve.described import gives, lasts, page_of
from headrace.pipelines.serve.routes.parameters import Cursor, From, Limit, Task, To
from headrace.pipelines.serve.site import Here, Site
from headrace.schemas.rules import RULE_NAMES

router = APIRouter(prefix="/v1", tags=["data"])

MOST_LOOKED_AT: Final = 50_000
"""Rejections, from the newest back, that one request looks at."""
Rule = Annotated[str | None, Query(max_length=64, description="Only this rule's.")]
Place = Annotated[str, Path(pattern=r"^[0-9]{1,9}:[0-9]{1,18}$", description="PARTITION:OFFSET, such as 0:17.")]


class RejectedHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message that was refused. place: where on `transitions`. preview: how it begins, escaped."""

    place: str
    rejected_ms: int
    task: str
    producer: str
    rule: str
    reason: str
    preview: str | None
    replay_of: str | None = None


class WholeRejected(msgspec.Struct, frozen=True):
    """All of a message that was refused. value: its JSON or rows where it is such, else its text."""

    place: str
    topic: str
    rejected_ms: int
    key: str | None
    task: str
    producer: str
    rule: str
    reason: str
    content_type: str | None
    replay_of: str | None
    bytes: int
    complete: bool
    value: Any


@router.get("/tasks/{task}/rejected", summary="List what was refused", responses=lasts(page_of(RejectedHead)))
def list_rejected(
    request: Request,
    site: Here,
    _: Reads,
    task: Task,
    rule: Rule = None,
    from_ms: From = None,
    to: To = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Return a task's refused messages, the newest first, of the newest 50,000 of all tasks."""
    site.spec(task)
    after: tuple[int, str] | None = place_of(cursor, tuple[int, str])
    heads: Iterator[RejectedHead] = (_head(one) for one in _newest(site, task, rule, from_ms, to))
    if after is not None:
        heads = _after(heads, after)
    found, more = first(heads, limit)
    return lasting(request, page(found, (found[-1].rejected_ms, found[-1].place) if more else None))


def _after(heads: Iterator[RejectedHead], place: tuple[int, str]) -> Iterator[RejectedHead]:
    """Leave out what comes before a place, and the place itself, as long as it is there."""
    for head in heads:
        if head.rejected_ms < place[0]:
            yield head
            break
        if (head.rejected_ms, head.place) == place:
            break
    yield from heads


def _newest(site: Site, task: str, rule: str | None, from_ms: int | None, to: int | None) -> Iterator[RejectedMessage]:
    if rule is not None and rule not in RULE_NAMES:
        raise invalid(f"rule {rule[:64]!r}: known: {', '.join(sorted(RULE_NAMES))}")
    found = rejected(site.services.log, () if rule is None else (rule,), from_ms, to)
    return (one for one in islice(found, MOST_LOOKED_AT) if origin(one)[0] == task)


def _head(one: RejectedMessage) -> RejectedHead:
    reason = safe_text(one.reason.encode(), 300) or ""
    return RejectedHead(one.place, one.ts, *origin(one), one.rule, reason, safe_text(one.kept), one.replayed)


@router.get("/tasks/{task}/rejected/summary", summary="Count what was refused", responses=lasts(page_of(Rejections)))
def summary_of_rejected(
    request: Request, site: Here, _: Reads, task: Task, rule: Rule = None, from_ms: From = None, to: To = None
) -> Response:
    """Count by rule and producer (the agent, else the key), each with its newest example; of the newest 50,000."""
    site.spec(task)
    return lasting(request, page(summary(_newest(site, task, rule, from_ms, to))))


@router.get("/tasks/{task}/rejected/{place}", summary="Show a refused message", responses=gives(WholeRejected))
def show_rejected(site: Here, _: Reads, task: Task, place: Place) -> Response:
    """Return the whole of a message that was refused, one of the newest 50,000 of all tasks."""
    site.spec(task)
    partition, offset = map(int, place.split(":"))
    log = site.services.log
    return json_answer(whole(log, find(islice(rejected(log), MOST_LOOKED_AT), partition, offset)))


@router.post("/rejected/replay", summary="Send refused messages again", responses=gives(Replayed))
def replay_rejected(
    site: Here,
    _: Operates,
    rules: Annotated[list[str] | None, Body(embed=True, max_length=64, description="Of these rules.")] = None,
) -> Response:
    """Send again what may pass now, each message once; ingest judges each anew.

    Without rules that is what came before its task was added, or ahead of the clock, and was not itself a replay.
    """
    unknown = sorted({*(rules or ())} - RULE_NAMES)
    if unknown:
        raise invalid(f"rule {unknown[0][:64]!r}: known: {', '.join(sorted(RULE_NAMES))}")
    return json_answer(replay(site.services.log, rules or LATER_RULES, again=bool(rules)))
