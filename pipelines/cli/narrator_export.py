"""headrace narrator export."""

from pathlib import Path

import click

from headrace.pipelines import published
from headrace.pipelines.cli.options import Command, task_option, with_services
from headrace.pipelines.cli.output import print_answer
from headrace.pipelines.tuning.exported import export
from headrace.pipelines.wiring import Services
from headrace.schemas.errors import SettingsError
from headrace.schemas.records import Report

DATA = Path("narrator-data")


@click.command("export", cls=Command)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=DATA, show_default=True)
@click.option(
    "--invented",
    type=click.IntRange(0, 10_000),
    default=30,
    show_default=True,
    help="Tasks to invent beside those of the log: facts of every kind, said in varied wordings.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same data set.")
@task_option
@with_services
def command(services: Services, *, out: Path, invented: int, seed: int, task: str | None, as_json: bool) -> None:
    """Write pairs of a fact and an accepted sentence, in OpenAI's format for tuning chat models.

    The sentences are those of the log's reports that are on one fact alone, and wordings where there is none. A part of
    the tasks, and the newest reports, are held out. The manifest says what is in it.
    """
    made = export(_reports(services, task), out, invented, seed)
    told = f"{made['train']['pairs']:,d} pairs to train on and {made['held_out']['pairs']:,d} held out in {out}, of "
    told += f"{made['reports']:,d} reports and {invented:,d} invented tasks"
    print_answer(made, told, as_json=as_json)


def _reports(services: Services, task: str | None) -> list[Report]:
    try:
        log = services.log
    except SettingsError:  # there is none: what is invented needs none
        return []
    return [*published.reports(log, task)]
