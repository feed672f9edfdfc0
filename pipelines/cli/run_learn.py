"""headrace run learn."""

import logging
from contextlib import closing
from typing import Literal

import click
import torch

from headrace.pipelines.advice import advising
from headrace.pipelines.cli.options import Command, json_option, metrics_option, with_services
from headrace.pipelines.cli.output import print_json
from headrace.pipelines.cli.progress import reported
from headrace.pipelines.cli.serving import as_service
from headrace.pipelines.core.tasks import TaskTable
from headrace.pipelines.flow import run
from headrace.pipelines.learn import Learn, dataflow
from headrace.pipelines.training import LearnSettings
from headrace.pipelines.wiring import Services, layout

logger = logging.getLogger(__name__)


@click.command("learn", cls=Command)
@click.option("--until-caught-up", is_flag=True, help="Stop at the log's present end, with a checkpoint.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of a task's first weights.")
@click.option(
    "--gate",
    type=click.Choice(["simulator", "none"]),
    default="simulator",
    show_default=True,
    help="What promotes a candidate: a paired test in the task's simulator, or nothing: each is promoted.",
)
@json_option
@metrics_option
@with_services
def command(
    services: Services, *, until_caught_up: bool, seed: int, gate: Literal["simulator", "none"], as_json: bool
) -> None:
    """Learn from windows, from the last checkpoint on; promote the candidates that pass the gate."""
    torch.set_num_threads(1)  # more processes are the way to use more cores
    job = Learn(
        services.log,
        services.chunks,
        services.policies,
        TaskTable(services.log, layout(services)),
        services.clock,
        settings=LearnSettings(gate=gate),
        advising=advising(services.advisor, services.settings.advisor.options),
        seed=seed,
        until_caught_up=until_caught_up,
    )
    with (
        closing(job),
        as_service(services, "learn", job, lambda: job.stop, lambda: job.positions),
        reported(lambda: _told(job)),
    ):
        logger.info("learn is ready: log %s, policies %s", services.settings.log, services.settings.policies)
        run(dataflow(job), job.stop)
    if as_json:
        print_json(
            {
                "task": task,
                "rows": one.training.counts.rows,
                "updates": one.training.state.updates,
                "serving": one.progress.serving,
            }
            for task, one in job.learners.items()
        )


def _told(job: Learn) -> str:
    told = [
        f"{task}: {one.training.counts.rows} rows, {one.training.state.updates} updates, "
        f"{f'version {one.progress.serving} serves' if one.progress.serving else 'nothing serves yet'}"
        for task, one in job.learners.copy().items()
    ]
    return "; ".join(told) or "no new windows"
