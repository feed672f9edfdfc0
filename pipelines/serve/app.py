"""The application: its routes, its guard, and how it begins and ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib import metadata
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.console.console import add_console, warm_up
from headrace.pipelines.serve.guard import Guard
from headrace.pipelines.serve.meter import METERS, OF_SITE, Meter, Metered
from headrace.pipelines.serve.openapi import describe
from headrace.pipelines.serve.problems import add_problems
from headrace.pipelines.serve.routes import (
    asking,
    decide,
    directives,
    history,
    jobs,
    policies,
    produce,
    rejected,
    reports,
    tasks,
)
from headrace.pipelines.serve.shortcut import add_shortcuts
from headrace.pipelines.serve.site import Here, Site
from headrace.pipelines.service.metrics import registry

SUBJECTS: Final = (tasks, history, policies, asking, reports, directives, rejected, jobs, decide, produce)
ROUTERS: Final = tuple(subject.router for subject in SUBJECTS)
STALE_S: Final = 30.0
"""A view that was not read on for so long is not ready."""
USES_EVERY_S: Final = 10.0


def routed() -> FastAPI:
    """Return the API's routes as an application that describes them, and has nothing to answer from yet."""
    app = FastAPI(
        title="headrace",
        version=metadata.version("headrace"),
        description="What agents did, what was learned of it and why; deciding what serves; acting by it.",
        lifespan=_running,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    add_problems(app)
    for router in ROUTERS:
        app.include_router(router, default_response_class=Response)
    describe(app)
    return app


def create_app(site: Site, *, loopback: bool = True) -> FastAPI:
    """Put the application together. loopback: whether it answers to this machine's own names alone."""
    app = routed()
    app.state.site = site
    meter = Meter()
    app.state.registry = registry((METERS, meter), (OF_SITE, site))
    add_shortcuts(app, site, decide.answered)
    _add_health(app)
    add_console(app)
    app.add_middleware(Guard, gate=site.gate, loopback=loopback)
    app.add_middleware(Metered, meter=meter)
    return app


@asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    site: Site = app.state.site
    site.start()
    background = [asyncio.create_task(_store_uses(site)), asyncio.create_task(asyncio.to_thread(warm_up))]
    try:
        yield
    finally:
        for task in background:
            task.cancel()
        site.close()


async def _store_uses(site: Site) -> None:
    while True:
        await asyncio.sleep(USES_EVERY_S)
        await asyncio.to_thread(site.gate.store_uses)


def _add_health(app: FastAPI) -> None:
    plain: dict[str, Any] = {"include_in_schema": False, "response_class": PlainTextResponse}

    @app.get("/healthz", **plain)
    async def healthz() -> str:
        return "ok\n"

    @app.get("/readyz", **plain)
    async def readyz(site: Here) -> Response:
        view = site.view
        if view.trouble or view.age_s > STALE_S:
            told = view.trouble or "reading on takes long"
            return PlainTextResponse(
                f"serve: the log was read {view.age_s:.0f} s ago: {told}\n", HTTPStatus.SERVICE_UNAVAILABLE
            )
        return PlainTextResponse("ok\n")

    @app.get("/metrics", **plain)
    def metrics(_: Reads) -> Response:
        return Response(generate_latest(app.state.registry), media_type=CONTENT_TYPE_LATEST)
