"""GET /v1/tasks: the tasks that were added."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.answers import encoded, lasting, page
from headrace.pipelines.serve.described import lasts, page_of
from headrace.pipelines.serve.routes.parameters import Task
from headrace.pipelines.serve.site import Here
from headrace.schemas.records import TaskSpec

router = APIRouter(prefix="/v1", tags=["tasks"])


@router.get("/tasks", summary="List the tasks", responses=lasts(page_of(TaskSpec)))
async def tasks(request: Request, site: Here, _: Reads) -> Response:
    """Return every task's specification: names and bounds of observations and actions, window length."""
    specs = site.view.specs.specs
    return lasting(request, page([specs[name] for name in sorted(specs)]))


@router.get("/tasks/{task}", summary="Show a task", responses=lasts(TaskSpec))
async def task(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """Return a task's specification."""
    return lasting(request, encoded(site.spec(task)))
