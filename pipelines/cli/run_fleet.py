"""headrace run fleet."""

import logging
from contextlib import suppress

import click

from headrace.pipelines.cli.options import Command, Timestamp, Within, metrics_option, with_services
from headrace.pipelines.cli.output import counted, iso, print_json
from headrace.pipelines.cli.serving import as_service, reported
from headrace.pipelines.fleet.job import START_MS, Fleet
from headrace.pipelines.fleet.metrics import METRICS
from headrace.pipelines.runtime.stop import Stop, StoppedError, paused
from headrace.pipelines.wiring import Services, compose_fleet
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Clock

logger = logging.getLogger(__name__)


@click.command("fleet", cls=Command)
@click.option("--agents", type=click.IntRange(1, 9_999), default=64, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another run needs another seed.")
@click.option("--windows", type=click.IntRange(1), help="Stop after so many.  [default: go on]")
@click.option("--start", type=Timestamp(), help=f"Where the virtual clock starts.  [default: {iso(START_MS)}]")
@click.option(
    "--every", "every_s", type=Within(0, 86_400), default=1.0, show_default=True, help="Seconds between windows."
)
@metrics_option
@with_services
def command(
    services: Services,
    *,
    agents: int,
    seed: int,
    windows: int | None,
    start: int | None,
    every_s: float,
    as_json: bool,
) -> None:
    """Simulated agents autoscale a service with the newest policy, and send their transitions.

    Their clock starts in the past and never passes the real one. A window is an episode of each agent.
    """
    start_ms = START_MS if start is None else start
    if start_ms > services.clock():
        raise SettingsError(f"--start {iso(start_ms)} lies ahead of the log's clock: name a time in the past")
    fleet = compose_fleet(services, agents=agents, seed=seed, start_ms=start_ms)
    with (
        as_service(services, "fleet", fleet, METRICS, fleet.stop),
        reported(lambda: _told(fleet)),
        suppress(StoppedError),
    ):
        logger.info("fleet is ready: %d agents of task %s, log %s", agents, fleet.spec.task, services.settings.log)
        _emit(fleet, services.clock, windows=windows, every_s=every_s)
    if as_json:
        print_json([{"windows": fleet.windows, "transitions": fleet.steps}])


def _emit(fleet: Fleet, clock: Clock, *, windows: int | None, every_s: float) -> None:
    """Emit window after window; a stop comes between two of them, or where one must wait for the log's clock."""
    while windows is None or fleet.windows < windows:
        ahead_ms = fleet.window_end_ms - clock()
        if paused(fleet.stop, max(ahead_ms / 1000, every_s if fleet.windows else 0.0)):
            return
        fleet.emit_window(lambda until_ms: _wait(clock, until_ms, fleet.stop))


def _wait(clock: Clock, until_ms: int, stop: Stop) -> None:
    """Wait until the log's clock has come so far: the last step is over already, so this is grace alone."""
    while (left_ms := until_ms - clock()) > 0:
        if paused(stop, left_ms / 1000):
            raise StoppedError("the last window was sent, but not closed")


def _told(fleet: Fleet) -> str:
    return f"{counted(fleet.windows, 'window')} sent" + (
        f", the last with a mean return of {fleet.mean_return:.2f}" if fleet.windows else ""
    )
