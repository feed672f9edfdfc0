"""/v1/tasks/{task}/reports: what the policies do and why, and what people think of it."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import Response

from headrace.pipelines import published
from headrace.pipelines.report import render
from headrace.pipelines.serve.access import Operates, Reads
from headrace.pipelines.serve.answers import json_answer, lasting, newest_first, page
from headrace.pipelines.serve.body import JSON
from headrace.pipelines.serve.described import BYTES, TEXT, gives, lasts, page_of, reference
from headrace.pipelines.serve.problems import RefusedError
from headrace.pipelines.serve.routes.parameters import Cursor, Limit, ReportId, Task
from headrace.pipelines.serve.site import Here, Site
from headrace.pipelines.serve.view import ReportHead, ReportPlace
from headrace.pipelines.topics import RATINGS
from headrace.schemas.ports import Record
from headrace.schemas.records import Rating, Report

router = APIRouter(prefix="/v1/tasks/{task}", tags=["reports"])

Form = Literal["json", "markdown", "html"]
PLOT_DPI: Final = 160
_WRITTEN: Final[dict[Form, tuple[str, Callable[[Report], str | bytes]]]] = {
    "json": (JSON, render.to_json),
    "markdown": ("text/markdown; charset=utf-8", render.to_markdown),
    "html": ("text/html; charset=utf-8", render.to_html),
}
PAGE_POLICY: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A report's page brings its own style, and can do nothing but be looked at."""


@router.get("/reports", summary="List reports", responses=lasts(page_of(ReportHead)))
async def reports(
    request: Request, site: Here, _: Reads, task: Task, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Return the reports with their verdicts, the newest first."""
    site.spec(task)
    there = site.view.task(task).reports.copy().values()
    return lasting(request, newest_first(there, _order, limit, cursor, lambda one: one.head))


def _order(place: ReportPlace) -> tuple[int, str]:
    return place.head.end_ms, place.head.report_id


@router.get(
    "/reports/{report_id}",
    summary="Show a report",
    responses=lasts({JSON: reference(Report), "text/markdown": TEXT, "text/html": TEXT}),
)
def report(
    request: Request,
    site: Here,
    _: Reads,
    task: Task,
    report_id: ReportId,
    form: Annotated[Form, Query(alias="format", description="html: a page, its plots inside.")] = "json",
) -> Response:
    """Return a report as data, as Markdown, or as a page with its plots."""
    place = _place(site, task, report_id)
    media_type, write = _WRITTEN[form]
    content = site.answers.get(("report", task, report_id, form), place, lambda: _bytes(write(_read(site, place))))
    answer = lasting(request, content)
    answer.headers["Content-Security-Policy"] = PAGE_POLICY
    if answer.status_code == HTTPStatus.OK:
        answer.headers["Content-Type"] = media_type
    return answer


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


@router.get("/reports/{report_id}/plots/{plot}", summary="Show a plot", responses=lasts({"image/png": BYTES}))
def plot(
    request: Request,
    site: Here,
    _: Reads,
    task: Task,
    report_id: ReportId,
    plot: Annotated[str, Path(pattern=r"^[a-z_]{1,40}\.png$")],
) -> Response:
    """Return one of a report's plots, by the name that its data gives it under `series`, and `.png`."""
    place, name = _place(site, task, report_id), plot.removesuffix(".png")
    content = site.answers.get(("plot", task, report_id, name), place, lambda: _drawn(_read(site, place), name))
    answer = lasting(request, content)
    if answer.status_code == HTTPStatus.OK:
        answer.headers["Content-Type"] = "image/png"
    return answer


def _drawn(report: Report, name: str) -> bytes:
    names = render.plot_names(report)
    if name not in names:
        known = ", ".join(names) or "none"
        raise RefusedError(HTTPStatus.NOT_FOUND, f"report {report.report_id} has no plot {name!r}; it has {known}")
    return render.image(report, name, dpi=PLOT_DPI).data


def _place(site: Site, task: str, report_id: str) -> ReportPlace:
    site.spec(task)
    place = site.view.task(task).reports.get(report_id)
    if place is None:
        detail = f"{task} has no report {report_id!r}: `headrace report list` shows those that there are"
        raise RefusedError(HTTPStatus.NOT_FOUND, detail)
    return place


def _read(site: Site, place: ReportPlace) -> Report:
    """Read a report where it lies on the log."""
    found = place.read(site.services.log)
    if found is None:
        raise RefusedError(HTTPStatus.GONE, f"report {place.head.report_id}: the log holds it no longer")
    return found


@router.post("/reports/{report_id}/rating", summary="Rate a report", responses=gives(Rating))
def rate(
    site: Here,
    caller: Operates,
    task: Task,
    report_id: ReportId,
    rating: Annotated[Literal["up", "down"], Body(embed=True)],
) -> Response:
    """Say whether a report was of use. A person's last word on a report holds; only thumbs are kept."""
    narrator = _read(site, _place(site, task, report_id)).narrative.narrator[:200]
    who = caller.name.replace("@", "_")  # a token's name may be an address, a record's name is none
    said: dict[str, Any] = {"report_id": report_id, "task": task, "narrator": narrator, "rating": rating, "who": who}
    record = msgspec.convert(said | {"ts": site.services.clock()}, Rating)
    site.services.log.send([Record(RATINGS, f"{report_id}/{who}".encode(), msgspec.json.encode(record))])
    return json_answer(record)


@router.get("/ratings", summary="List ratings", responses=lasts(page_of(Rating)))
def ratings(request: Request, site: Here, _: Reads, task: Task) -> Response:
    """Return each person's last rating of each report, the oldest first."""
    site.spec(task)
    return lasting(request, page(published.ratings(site.services.log, task)))
