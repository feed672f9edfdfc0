"""/v1/tasks/{task}/policies: versions with their lineage, and what people decide about them."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Request
from fastapi.responses import Response

from headrace.pipelines.policies.control import Control, find
from headrace.pipelines.published import published
from headrace.pipelines.serve.access import Caller, Operates, Reads
from headrace.pipelines.serve.answers import json_answer, lasting, page
from headrace.pipelines.serve.described import gives, lasts, page_of
from headrace.pipelines.serve.routes.parameters import Number, Reason, Seen, Task
from headrace.pipelines.serve.site import Here, Site
from headrace.schemas.errors import CommitConflictError
from headrace.schemas.records import PolicyVersion, ServingPolicy

router = APIRouter(prefix="/v1/tasks/{task}", tags=["policies"])


class VersionHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version as a list has it, without its lineage. serves: whether it does now; the rest as in PolicyVersion."""

    task: str
    version: int
    parent: int | None
    algorithm: str
    config: dict[str, Any]
    environment_steps: int
    updates: int
    evaluation: dict[str, float]
    promoted: bool
    reason: str
    serves: bool


@router.get("/policies", summary="List a task's versions", responses=lasts(page_of(VersionHead)))
def versions(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """Return the versions, the oldest first, without their lineage, and what serves."""
    site.spec(task)
    found = [msgspec.to_builtins(one) for one in site.opened("policies").versions(task)]
    serves = site.view.task(task).serves
    for one in found:
        del one["lineage"]
        one["serves"] = one["version"] == serves
    return lasting(request, page(found))


@router.get("/policies/{number}", summary="Show a version", responses=lasts(PolicyVersion))
def version(request: Request, site: Here, _: Reads, task: Task, number: Number) -> Response:
    """Return a version: its configuration, its lineage by chunk references, and the gate's verdict."""
    site.spec(task)
    return lasting(request, msgspec.json.encode(find(site.opened("policies"), task, number)))


@router.get("/decisions", summary="List what was decided", responses=lasts(page_of(ServingPolicy)))
async def decisions(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """Return who or what let which version serve, when and why, the newest first."""
    site.spec(task)
    return lasting(request, page([*reversed(site.view.task(task).decisions)]))


@router.post("/policies/{number}/promote", summary="Let a version serve", responses=gives(ServingPolicy))
def promote(site: Here, caller: Operates, task: Task, number: Number, reason: Reason, seen_ts: Seen = None) -> Response:
    """Let a version serve, whatever the gate said of it."""
    return _decided(site, caller, task, seen_ts, lambda control: control.promote(task, number, reason))


@router.post("/rollback", summary="Let what served before serve again", responses=gives(ServingPolicy))
def rollback(
    site: Here,
    caller: Operates,
    task: Task,
    reason: Reason,
    to: Annotated[int | None, Body(ge=1)] = None,
    hold: Annotated[bool, Body()] = False,
    seen_ts: Seen = None,
) -> Response:
    """Let the version before the present one serve, or the one given. hold: freeze promotion too."""
    return _decided(site, caller, task, seen_ts, lambda control: control.rollback(task, reason, to, hold=hold))


@router.post("/hold", summary="Freeze promotion", responses=gives(ServingPolicy))
def hold(site: Here, caller: Operates, task: Task, reason: Reason, seen_ts: Seen = None) -> Response:
    """Keep what serves: learning goes on, and promotes nothing."""
    return _decided(site, caller, task, seen_ts, lambda control: control.hold(task, reason, held=True))


@router.post("/release", summary="Let learning promote again", responses=gives(ServingPolicy))
def release(site: Here, caller: Operates, task: Task, reason: Reason, seen_ts: Seen = None) -> Response:
    """End a hold, or a canary."""
    return _decided(site, caller, task, seen_ts, lambda control: control.hold(task, reason, held=False))


def _decided(
    site: Site, caller: Caller, task: str, seen_ts: int | None, decide: Callable[[Control], ServingPolicy]
) -> Response:
    return json_answer(decided(site, caller, task, seen_ts, decide))


def decided(
    site: Site, caller: Caller, task: str, seen_ts: int | None, decide: Callable[[Control], ServingPolicy]
) -> ServingPolicy:
    """Decide in the caller's name. seen_ts: of the decision that they saw last, where they say it."""
    site.spec(task)
    control = site.control(caller)
    with site.deciding:  # of two who saw the same one is the first
        if seen_ts is not None:
            _require_newest(site, task, seen_ts)
        return decide(control)


def _require_newest(site: Site, task: str, seen_ts: int) -> None:
    """Raise CommitConflictError where somebody has decided since."""
    records = published(site.services.log, task)
    if records and records[-1].ts != seen_ts:
        last = records[-1]
        raise CommitConflictError(
            f"{last.decided_by} has decided meanwhile: {task}@{last.version}{', on hold' if last.held else ''} "
            f"({last.reason}): look again, and decide then"
        )
