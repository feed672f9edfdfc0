"""The console's pages: all tasks, and one of them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response

from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.console.beside import Reports
from headrace.pipelines.serve.console.overview import Sort, Wanted, overview
from headrace.pipelines.serve.console.render import PageRoute, page
from headrace.pipelines.serve.console.soundness import rejections
from headrace.pipelines.serve.console.task import task_page
from headrace.pipelines.serve.site import Here, Site
from headrace.schemas.records import ID_PATTERN

router = APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)
Task = Annotated[str, Path(pattern=ID_PATTERN)]


@router.get("/")
def all_tasks(
    request: Request,
    site: Here,
    _: Reads,
    q: Annotated[str, Query(max_length=64)] = "",
    state: Wanted = "",
    sort: Sort = "attention",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """Show every task in a table, what was decided lately, and what wants somebody."""
    found = overview(site.view, site.services.clock(), q.strip(), state, sort, number)
    rejected = rejections(site.view.rejections, [*site.view.rejected])
    filters = {"q": q.strip(), "state": state, "sort": sort}
    return page(request, "overview.html.j2", found=found, rejected=rejected, filters=filters)


@router.get("/tasks/{task}")
def one_task(
    request: Request, site: Here, _: Reads, task: Task, agent: Annotated[str, Query(max_length=64)] = ""
) -> Response:
    """Show one task."""
    return shown(request, site, task, agent=agent)


def shown(request: Request, site: Site, task: str, status: int = 200, *, agent: str = "", **more: object) -> Response:
    """Show one task as it is now. more: what an action said, and what was typed for it."""
    found = task_page(site.view, site.spec(task), reports_of(request), site.services.clock())
    said: dict[str, object] = {"notice": "", "alarm": "", "draft": {}}
    return page(request, "task.html.j2", status, found=found, agent=agent, **said | more)


def reports_of(request: Request) -> Reports:
    """Return the reports that were read for the console."""
    reports: Reports = request.app.state.reports
    return reports
