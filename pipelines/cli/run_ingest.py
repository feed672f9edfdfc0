"""headrace run ingest."""

import gc
from functools import partial

import click

from headrace.pipelines.cli.options import Command, metrics_option, with_services
from headrace.pipelines.cli.output import counted, print_json
from headrace.pipelines.cli.serving import run_dataflow
from headrace.pipelines.ingest.job import dataflow
from headrace.pipelines.ingest.meters import IngestCounts, IngestMeters
from headrace.pipelines.ingest.metrics import METRICS
from headrace.pipelines.wiring import Services, compose_ingest


@click.command("ingest", cls=Command)
@click.option("--until-caught-up", is_flag=True, help="Stop at the log's present end, everything written.")
@click.option("--accept-gap", is_flag=True, help="Go on where retention took messages before they were indexed.")
@click.option(
    "--from-start", is_flag=True, help="Ignore the commits: read the whole log again, as into a new or damaged index."
)
@metrics_option
@with_services
def command(services: Services, *, until_caught_up: bool, accept_gap: bool, from_start: bool, as_json: bool) -> None:
    """Check, window and index transitions, from where the last run stopped. Start more of it to share partitions."""
    job = compose_ingest(services, until_caught_up=until_caught_up, accept_gap=accept_gap, from_start=from_start)
    gc.freeze()  # what is loaded by now stays: to visit it again and again takes 4 % of the CPU
    told = partial(_told, job.counts, job.meters)
    run_dataflow(services, "ingest", job, dataflow, METRICS, told, "index")
    if as_json:
        print_json([job.counts])
    if job.storing.hidden:
        raise job.storing.hidden


def _told(counts: IngestCounts, meters: IngestMeters) -> str:
    # A Counter may grow under the other thread's hands; a copy is made in one step.
    rejected = sum(counts.rejected.copy().values())
    without = f", without {counted(meters.duplicates, 'duplicate')}" if meters.duplicates else ""
    repaired = f"; {counted(counts.repaired, 'damaged row')} repaired" if counts.repaired else ""
    return (
        f"{counted(counts.messages, 'message')}: {counted(counts.transitions, 'transition')} ({counts.late} late), "
        f"{counted(rejected, 'message')} rejected; {counted(counts.chunks, 'chunk')} and "
        f"{counted(counts.windows, 'window')} written{without}{repaired}"
    )
