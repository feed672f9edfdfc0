"""The console as a part of the application: its pages, its files, and what it remembers."""

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response
from starlette.types import Scope
from typing_extensions import override

from headrace.learners.judge.distributions import t_quantile
from headrace.pipelines.serve.console import actions, events, health, login, pages, panels, unsubscribing
from headrace.pipelines.serve.console.beside import Reports
from headrace.pipelines.serve.console.render import STATIC, compile_templates
from headrace.pipelines.serve.console.safety import FEWEST


class _Files(StaticFiles):
    """Files whose addresses change with them, so that a browser need not ask again."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if scope["query_string"] else "no-cache"
        )
        return response


def warm_up() -> None:
    """Load what the first page would wait for: SciPy's quantiles, and the templates."""
    t_quantile(FEWEST, 0.975)
    compile_templates()


def add_console(app: FastAPI) -> None:
    """Add the pages to an application that has its site."""
    app.state.events = events.Streams()
    app.state.lags = health.Lags(app.state.site.services.log)
    app.state.reports = Reports(app.state.site.services.log)
    for subject in (pages, panels, health, login, events, actions, unsubscribing):
        app.include_router(subject.router)
    app.mount("/static", _Files(directory=STATIC))
