"""Parts of a task's page that need the index or the policy store: asked for by the page, so that it never waits."""

import base64
import hashlib
import re
import threading
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, Response

from headrace.learners.explain.studied import StudiedPolicy
from headrace.pipelines.ask.ground import Ground, NotKnownError
from headrace.pipelines.report.render import to_html
from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.console.decisions import explained, newest
from headrace.pipelines.serve.console.pages import Task, chosen_of, reports_of
from headrace.pipelines.serve.console.render import PageRoute, page
from headrace.pipelines.serve.problems import RefusedError
from headrace.pipelines.serve.site import Here, Site
from headrace.schemas.records import ID_PATTERN

router = APIRouter(route_class=PageRoute, include_in_schema=False)

MOST_QUESTIONS: Final = 2
"""Decisions that are explained at a time: each takes a core."""
MOST_STUDIED: Final = 16
MOST_VERSIONS: Final = 50
NONE: Final = "'none'"


class Explaining:
    """What explanations share: versions that were prepared, and how many are made at a time."""

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(MOST_QUESTIONS)
        self._studied: dict[tuple[str, int], StudiedPolicy] = {}

    def ground(self, site: Site) -> Ground:
        """Return what look-ups read, as it is now. Raises as the services do."""
        if len(self._studied) > MOST_STUDIED:
            self._studied = {}
        parts = (site.services.log, site.opened("index"), site.opened("chunks"), site.opened("policies"))
        return Ground(*parts, studied=self._studied)


@router.get("/tasks/{task}/decisions")
def decisions(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """List the newest decisions."""
    spec, chosen = site.spec(task), chosen_of(request)
    starts = [one.start_ms for one in reversed(site.view.windows(task))]
    rows = newest(site.opened("index"), spec, chosen.agent, starts)
    return page(request, "decisions.html.j2", task=task, rows=rows, chosen=chosen)


@router.get("/tasks/{task}/decision")
def decision(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """Explain one decision."""
    spec, chosen = site.spec(task), chosen_of(request)
    explaining: Explaining = request.app.state.explaining
    if not explaining.slots.acquire(timeout=5.0):
        raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "other decisions are being explained: try again")
    try:
        found = explained(explaining.ground(site), spec, chosen)
    except NotKnownError as error:
        raise RefusedError(HTTPStatus.NOT_FOUND, str(error)) from error
    finally:
        explaining.slots.release()
    return page(request, "decision.html.j2", task=task, found=found, chosen=chosen)


@router.get("/tasks/{task}/versions")
def versions(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """List the newest versions with the gate's verdict."""
    site.spec(task)
    found = site.opened("policies").versions(task)
    records = [*site.view.task(task).decisions]
    serves = records[-1].version if records else 0
    shown = found[: -MOST_VERSIONS - 1 : -1]
    return page(request, "versions.html.j2", task=task, versions=shown, more=len(found) - len(shown), serves=serves)


@router.get("/tasks/{task}/reports/{report_id}")
def report(
    request: Request, site: Here, _: Reads, task: Task, report_id: Annotated[str, Path(pattern=ID_PATTERN)]
) -> Response:
    """Show a report, as its file is; its own style, by its hash, is the only one that it may bring."""
    site.spec(task)
    place = site.view.task(task).reports.get(report_id)
    found = reports_of(request).read(place) if place else None
    if found is None:
        told = f"no report {report_id!r} of {task} is known: it was never written, or is older than those kept here"
        raise RefusedError(HTTPStatus.NOT_FOUND, told)
    text = to_html(found)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in styles]
    allowed = f"img-src data:; style-src {' '.join(hashes) or NONE}; base-uri {NONE}; frame-ancestors {NONE}"
    policy = f"default-src {NONE}; {allowed}"
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})
