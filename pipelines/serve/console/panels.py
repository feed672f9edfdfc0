"""Parts of a task's page that need the index or the policy store: asked for by the page, so that it never waits."""

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from headrace.pipelines.ask.ground import NotKnownError
from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.console.decisions import explained, newest
from headrace.pipelines.serve.console.pages import chosen_of
from headrace.pipelines.serve.console.render import PageRoute, page
from headrace.pipelines.serve.problems import RefusedError
from headrace.pipelines.serve.routes.parameters import Task
from headrace.pipelines.serve.site import Here

router = APIRouter(route_class=PageRoute, include_in_schema=False)

MOST_VERSIONS: Final = 50


@router.get("/tasks/{task}/decisions")
def decisions(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """List the newest decisions."""
    spec, chosen = site.spec(task), chosen_of(request)
    starts = [one.start_ms for one in reversed(site.view.windows(task))]
    rows = newest(site.opened("index"), spec, chosen.agent, starts)
    return page(request, "decisions.html.j2", task=task, rows=rows, chosen=chosen)


@router.get("/tasks/{task}/decision")
async def decision(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """Explain one decision, in a thread, a few at a time."""
    spec, chosen = site.spec(task), chosen_of(request)
    try:
        found = await site.asked(lambda asker: explained(asker.ground, spec, chosen))
    except NotKnownError as error:
        raise RefusedError(HTTPStatus.NOT_FOUND, str(error)) from error
    return page(request, "decision.html.j2", task=task, found=found, chosen=chosen)


@router.get("/tasks/{task}/versions")
def versions(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """List the newest versions with the gate's verdict."""
    site.spec(task)
    found = site.opened("policies").versions(task)
    serves = site.view.task(task).serves
    shown = found[: -MOST_VERSIONS - 1 : -1]
    return page(request, "versions.html.j2", task=task, versions=shown, more=len(found) - len(shown), serves=serves)
