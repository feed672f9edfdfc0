"""headrace run explain."""

import click

from headrace.pipelines.cli.options import Command, metrics_option, with_services
from headrace.pipelines.cli.output import counted, print_json
from headrace.pipelines.cli.serving import run_dataflow
from headrace.pipelines.explain.job import INTERVAL_MS, dataflow
from headrace.pipelines.explain.metrics import METRICS
from headrace.pipelines.wiring import Services, compose_explain


@click.command("explain", cls=Command)
@click.option("--until-caught-up", is_flag=True, help="Stop at the log's present end.")
@click.option(
    "--interval-ms",
    type=click.IntRange(1),
    default=INTERVAL_MS,
    show_default=True,
    help="Length of a reporting interval, in event time; longer where a task's windows do not divide it.",
)
@metrics_option
@with_services
def command(services: Services, *, until_caught_up: bool, interval_ms: int, as_json: bool) -> None:
    """Write a report on each version that is promoted, and on each reporting interval."""
    job = compose_explain(services, interval_ms=interval_ms, until_caught_up=until_caught_up)
    run_dataflow(
        services, "explain", job, dataflow, METRICS, lambda: f"{counted(job.reports, 'report')} written", "narrator"
    )
    if as_json:
        print_json([{"reports": job.reports}])
