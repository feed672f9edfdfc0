"""A streaming job as a service: its endpoint, its progress on stderr, and its clean stop."""

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from headrace.pipelines.runtime.stop import Stop, stopped_by_signals
from headrace.pipelines.service.endpoint import served
from headrace.pipelines.service.health import stated
from headrace.pipelines.service.metrics import Metric
from headrace.pipelines.service.service import Positions, Service
from headrace.pipelines.wiring import Services
from headrace.schemas.records import JobName
from headrace.sinks.files.lock import held

if TYPE_CHECKING:
    from bytewax.dataflow import Dataflow

logger = logging.getLogger(__name__)

PROGRESS_S: Final = 5.0
SILENT_S: Final = {"ingest": 120.0, "learn": 600.0, "explain": 300.0, "fleet": 120.0, "digest": 120.0}
"""How long a job's main loop may be at one piece of work: learn's longest is a window's updates and the gate."""


class StreamingJob(Protocol):
    """A job that is a dataflow."""

    @property
    def stop(self) -> Stop:
        """What ends it."""

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """How far it has come, by topic and partition."""

    def close(self) -> None:
        """Leave the group."""


Job = TypeVar("Job", bound=StreamingJob)


def run_dataflow(
    services: Services,
    name: JobName,
    job: Job,
    dataflow: Callable[[Job], "Dataflow"],
    metrics: Iterable[Metric[Job]],
    told: Callable[[], str],
    beside: str,
) -> None:
    """Run a job as a service until its source ends, then close it.

    told: what it has done so far. beside: the setting that the first line names beside the log.
    """
    from headrace.pipelines.runtime.flow import run  # noqa: PLC0415 the fleet and the digest need no Bytewax

    with (
        alone(services, name, f"on Kafka, processes of {name} share the work"),
        closing(job),
        as_service(services, name, job, metrics, job.stop, lambda: job.positions, alone=True),
        reported(told),
    ):
        settings = services.settings
        logger.info("%s is ready: log %s, %s %s", name, settings.log, beside, getattr(settings, beside))
        run(dataflow(job), job.stop)


@contextmanager
def alone(services: Services, name: str, why: str) -> Iterator[None]:
    """Keep any other process of the job away from a log in files while the block runs. why: it is refused else."""
    if not services.adapters["log"].local:
        yield
        return
    log = services.settings.log
    remedy = f"stop it first, or name another log by --log; {why}"
    with held(Path(f"{log.path}.{name}.lock"), f"{name} runs on {log} already", remedy):
        yield


@contextmanager
def as_service(
    services: Services,
    name: JobName,
    job: object,
    metrics: Iterable[Metric[Any]],
    stop: Stop,
    positions: Positions | None = None,
    *,
    alone: bool = False,
) -> Iterator[None]:
    """Serve a job's metrics and health, and take SIGTERM and SIGINT for a wish to stop, while the block runs.

    What it does and meets is written to `operations` meanwhile. positions: see `Service`. alone: whether a log in files
    lets no second process of the job run. Raises SettingsError where --metrics can't be served.
    """

    def request() -> None:
        stop.requested = True

    service = Service(name, job, metrics, services.log, stop.liveness, SILENT_S[name], positions)
    process = "only" if alone and services.adapters["log"].local else secrets.token_hex(4)
    with (
        served(services.settings.metrics, service),
        stated(service, process, services.clock),
        stopped_by_signals(request),
    ):
        yield


@contextmanager
def reported(describe: Callable[[], str]) -> Iterator[None]:
    """Log what `describe` says whenever it has changed, looked at by a thread each PROGRESS_S, and at the end."""
    finished = threading.Event()

    def watch() -> None:
        told = describe()
        while not finished.wait(PROGRESS_S):
            now = describe()
            if now != told:
                logger.info("%s", now)
                told = now

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        logger.info("%s", describe())
