"""/v1/tasks/{task}/directives: what the advisor proposed, what became of it, and what people decide."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from headrace.pipelines.policies.directing import Act, direct
from headrace.pipelines.serve.access import Operates, Reads
from headrace.pipelines.serve.answers import json_answer, lasting, newest_first
from headrace.pipelines.serve.described import gives, lasts, page_of
from headrace.pipelines.serve.routes.parameters import Cursor, DirectiveId, Limit, ReasonAlone, Task
from headrace.pipelines.serve.site import Here
from headrace.schemas.records import Directive

router = APIRouter(prefix="/v1/tasks/{task}", tags=["directives"])


@router.get("/directives", summary="List directives", responses=lasts(page_of(Directive)))
async def directives(
    request: Request, site: Here, _: Reads, task: Task, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Return the directives as each stands now, the newest first: the change, its verdict, who gave it and why."""
    site.spec(task)
    there = site.view.task(task).directives.copy().values()
    return lasting(request, newest_first(there, _order, limit, cursor))


def _order(one: Directive) -> tuple[int, str]:
    return one.ts, one.directive_id


@router.post("/directives/{directive_id}/{act}", summary="Decide on a directive", responses=gives(Directive))
def decide(
    site: Here, caller: Operates, task: Task, directive_id: DirectiveId, act: Act, reason: ReasonAlone
) -> Response:
    """Approve or reject a proposed change, or undo one that is made; `run learn` follows at its next version."""
    site.spec(task)
    services = site.services
    return json_answer(direct(services.log, services.clock, task, directive_id, act, caller.name, reason))
