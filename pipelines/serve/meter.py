"""What the server counts of itself, and tells Prometheus."""

import time
from collections import defaultdict
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.pipelines.serve.site import Site
from headrace.pipelines.service.histogram import Histogram
from headrace.pipelines.service.metrics import Metric

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
NO_ROUTE: Final = "none"
"""Of requests that no route took: what a client writes is no label."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Meter:
    """Counts of requests. What is open counts until the answer's end, a stream's too."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, ...], int] = defaultdict(int)
        self.seconds: dict[tuple[str, ...], Histogram] = {}
        self.open = 0

    def note(self, scope: Scope, status: int, took_s: float) -> None:
        """Count a request whose answer has begun. status: 0 where there was none."""
        route: Any = scope.get("route")
        path = getattr(route, "path", NO_ROUTE)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.requests[path, method, str(status)] += 1
        if (path,) not in self.seconds:
            self.seconds[path,] = Histogram(SECONDS)
        self.seconds[path,].observe(took_s)


class Metered:
    """The outermost part of the application: what the guard refuses is counted too."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        meter, began_s, noted = self._meter, time.perf_counter(), False

        async def sent(message: Message) -> None:
            nonlocal noted
            if not noted and message["type"] == "http.response.start":
                noted = True
                meter.note(scope, message["status"], time.perf_counter() - began_s)
            await send(message)

        meter.open += 1
        try:
            await self._app(scope, receive, sent)
        finally:
            meter.open -= 1
            if not noted:
                meter.note(scope, 0, time.perf_counter() - began_s)


METERS: Final[tuple[Metric[Meter], ...]] = (
    Metric(
        "headrace_serve_requests_total",
        "counter",
        "Requests by route, method and status (0: the client went away first).",
        lambda meter: dict(meter.requests),
        ("route", "method", "status"),
    ),
    Metric(
        "headrace_serve_seconds",
        "histogram",
        "From a request's arrival to the beginning of its answer.",
        lambda meter: dict(meter.seconds),
        ("route",),
    ),
    Metric(
        "headrace_serve_open", "gauge", "Requests whose answers have not ended, streams included.", lambda m: m.open
    ),
)
OF_SITE: Final[tuple[Metric[Site], ...]] = (
    Metric("headrace_serve_view_age_seconds", "gauge", "Since the log was read to its end.", lambda s: s.view.age_s),
    Metric("headrace_serve_streams", "gauge", "Streams of transitions that are open.", lambda s: s.streams.in_use),
    Metric("headrace_serve_questions", "gauge", "Questions that are being answered.", lambda s: s.questions.in_use),
    Metric(
        "headrace_serve_deciding_version",
        "gauge",
        "The version that decides, by task.",
        lambda site: {(task,): float(number) for task, number in site.deciders.numbers().items()},
        ("task",),
    ),
)
