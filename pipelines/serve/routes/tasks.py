"""GET /v1/tasks: the tasks that were added."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.answers import lasting, page
from headrace.pipelines.serve.site import Here

router = APIRouter(prefix="/v1", tags=["tasks"])


@router.get("/tasks", summary="List the tasks")
async def tasks(request: Request, site: Here, _: Reads) -> Response:
    """Return every task's specification: names and bounds of observations and actions, window length."""
    specs = site.view.specs.specs
    return lasting(request, page([specs[name] for name in sorted(specs)]))
