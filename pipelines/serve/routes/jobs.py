"""GET /v1/jobs and /v1/lag: how the jobs do."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from headrace.pipelines.query.progress import JobRun, Lag, lags, runs
from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.answers import lasting, page
from headrace.pipelines.serve.described import lasts, page_of
from headrace.pipelines.serve.site import Here

router = APIRouter(prefix="/v1", tags=["jobs"])


@router.get("/jobs", summary="List the jobs' processes", responses=lasts(page_of(JobRun)))
async def jobs(request: Request, site: Here, _: Reads) -> Response:
    """Return the newest run of each process of a job: whether it runs, and what it waits for."""
    return lasting(request, page(runs([*site.view.operations], site.services.clock())))


@router.get("/lag", summary="List how far readers are behind", responses=lasts(page_of(Lag)))
async def lag(request: Request, site: Here, _: Reads) -> Response:
    """Return, by group, topic and partition, how many messages wait; as of a second ago at most."""
    second = site.services.clock() // 1_000
    content = await site.answers.soon("lag", second, lambda: page(lags(site.services.log)))
    return lasting(request, content)
