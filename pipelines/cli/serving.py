"""A streaming job as a service: its endpoint and its clean stop."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from headrace.pipelines.runtime.stop import Stop, stopped_by_signals
from headrace.pipelines.service.endpoint import served
from headrace.pipelines.service.metrics import Metric
from headrace.pipelines.service.service import Positions, Service
from headrace.pipelines.wiring import Services

SILENT_S: Final = {"ingest": 120.0, "learn": 600.0, "explain": 300.0, "fleet": 120.0, "digest": 120.0}
"""How long a job's main loop may be at one piece of work: learn's longest is a window's updates and the gate."""


@contextmanager
def as_service(
    services: Services,
    name: str,
    job: object,
    metrics: Iterable[Metric[Any]],
    stop: Callable[[], Stop],
    positions: Positions | None = None,
) -> Iterator[None]:
    """Serve a job's metrics and health, and take SIGTERM and SIGINT for a wish to stop, while the block runs.

    stop: gives the job's own. positions: see `Service`. Raises SettingsError where --metrics can't be served.
    """

    def request() -> None:
        stop().requested = True

    service = Service(name, job, metrics, services.log, lambda: stop().pulse, SILENT_S[name], positions)
    with served(services.settings.metrics, service), stopped_by_signals(request):
        yield
