"""The console's pages: all tasks, and one of them."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.console.beside import Reports
from headrace.pipelines.serve.console.decisions import Chosen
from headrace.pipelines.serve.console.overview import Sort, Wanted, overview
from headrace.pipelines.serve.console.render import PageRoute, page
from headrace.pipelines.serve.console.soundness import rejections
from headrace.pipelines.serve.console.task import task_page
from headrace.pipelines.serve.routes.parameters import Task
from headrace.pipelines.serve.site import Here, Site

router = APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)


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
def one_task(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """Show one task."""
    return shown(request, site, task)


def shown(
    request: Request,
    site: Site,
    task: str,
    status: int = HTTPStatus.OK,
    *,
    notice: str = "",
    alarm: str = "",
    draft: dict[str, str] | None = None,
) -> Response:
    """Show one task as it is now. notice, alarm: what came of an action; draft: what was typed for it."""
    found = task_page(site.view, site.spec(task), reports_of(request), site.services.clock())
    draft = {"act": "", "version": "", "reason": "", "hold": "", "directive": ""} | (draft or {})
    chosen = chosen_of(request)
    here = f"/tasks/{task}{'?' + chosen.query if chosen.query else ''}"
    said = {"notice": notice, "alarm": alarm, "draft": draft, "here": here, "chosen": chosen}
    return page(request, "task.html.j2", status, found=found, **said)


def chosen_of(request: Request) -> Chosen:
    """Return what a page's address chooses; an action is asked for by a page, which says its own."""
    try:
        by_page = request.method == "GET"
        return Chosen.read(request.url.query if by_page else urlsplit(request.headers.get("hx-current-url", "")).query)
    except ValueError:  # no address, or of more fields than any of ours
        return Chosen()


def reports_of(request: Request) -> Reports:
    """Return the reports that were read for the console."""
    reports: Reports = request.app.state.reports
    return reports
