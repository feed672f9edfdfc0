"""headrace run explain."""

import logging
from contextlib import closing

import click

from headrace.pipelines.cli.options import Command, json_option, metrics_option, with_services
from headrace.pipelines.cli.output import print_json
from headrace.pipelines.cli.progress import reported
from headrace.pipelines.cli.serving import as_service
from headrace.pipelines.explain.job import INTERVAL_MS, dataflow
from headrace.pipelines.explain.metrics import METRICS
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.wiring import Services, compose_explain

logger = logging.getLogger(__name__)


@click.command("explain", cls=Command)
@click.option("--until-caught-up", is_flag=True, help="Stop at the log's present end.")
@click.option(
    "--interval-ms",
    type=click.IntRange(1),
    default=INTERVAL_MS,
    show_default=True,
    help="Length of a reporting interval, in event time.",
)
@json_option
@metrics_option
@with_services
def command(services: Services, *, until_caught_up: bool, interval_ms: int, as_json: bool) -> None:
    """Write a report on each version that is promoted, and on each reporting interval."""
    job = compose_explain(services, interval_ms=interval_ms, until_caught_up=until_caught_up)
    with (
        closing(job),
        as_service(services, "explain", job, METRICS, lambda: job.stop, lambda: job.positions),
        reported(lambda: f"{job.reports} reports written"),
    ):
        logger.info("explain is ready: log %s, narrator %s", services.settings.log, services.settings.narrator)
        run(dataflow(job), job.stop)
    if as_json:
        print_json([{"reports": job.reports}])
