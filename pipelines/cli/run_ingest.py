"""headrace run ingest."""

import gc
import logging
from contextlib import closing

import click

from headrace.pipelines.cli.options import Command, json_option, metrics_option, with_services
from headrace.pipelines.cli.output import print_json
from headrace.pipelines.cli.progress import reported
from headrace.pipelines.cli.serving import as_service
from headrace.pipelines.ingest.job import dataflow
from headrace.pipelines.ingest.meters import Counts
from headrace.pipelines.ingest.metrics import METRICS
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.wiring import Services, compose_ingest

logger = logging.getLogger(__name__)


@click.command("ingest", cls=Command)
@click.option("--until-caught-up", is_flag=True, help="Stop at the log's present end, everything written.")
@click.option("--accept-gap", is_flag=True, help="Go on where retention took messages before they were indexed.")
@click.option(
    "--from-start", is_flag=True, help="Ignore the commits: read the whole log again, as into a new or damaged index."
)
@json_option
@metrics_option
@with_services
def command(services: Services, *, until_caught_up: bool, accept_gap: bool, from_start: bool, as_json: bool) -> None:
    """Check, window and index transitions, from where the last run stopped. Start more of it to share partitions."""
    job = compose_ingest(services, until_caught_up=until_caught_up, accept_gap=accept_gap, from_start=from_start)
    with (
        closing(job),
        as_service(services, "ingest", job, METRICS, lambda: job.stop, lambda: job.positions),
        reported(lambda: _told(job.counts, job.meters.duplicates)),
    ):
        logger.info("ingest is ready: log %s, index %s", services.settings.log, services.settings.index)
        gc.freeze()  # what is loaded by now stays: to visit it again and again takes 4 % of the CPU
        run(dataflow(job), job.stop)
    if as_json:
        print_json([job.counts])


def _told(counts: Counts, duplicates: int) -> str:
    # A Counter may grow under the other thread's hands; a copy is made in one step.
    rejected = sum(counts.rejected.copy().values())
    without = f", without {duplicates} duplicates" if duplicates else ""
    return (
        f"{counts.messages} messages: {counts.transitions} transitions ({counts.late} late), {rejected} "
        f"messages rejected; {counts.chunks} chunks and {counts.windows} windows written{without}"
    )
