"""headrace digest: who gets a task's digests, and when."""

import click

from headrace.pipelines.cli.options import Command, task_option, with_services
from headrace.pipelines.cli.output import iso, print_answer, print_records
from headrace.pipelines.cli.policy import who_option
from headrace.pipelines.cli.run_digest import ADDRESS
from headrace.pipelines.query.scan import task_spec
from headrace.pipelines.report import subscribers
from headrace.pipelines.report.mails import Told
from headrace.pipelines.report.recipients import Recipient, recipients
from headrace.pipelines.settings import DEFAULTS
from headrace.pipelines.wiring import Services
from headrace.schemas.records import Subscriber


@click.group("digest")
def command() -> None:
    """Who gets a task's digests besides `run digest --to`, each by a schedule of their own."""


@command.command("add", cls=Command)
@click.argument("task")
@click.argument("addresses", nargs=-1, required=True, type=ADDRESS, metavar="ADDRESS...")
@click.option("--cron", default=DEFAULTS["digest_cron"], show_default=True, help="When, as a cron expression.")
@click.option("--zone", default=DEFAULTS["digest_zone"], show_default=True, help="The time zone, as Europe/Zurich.")
@click.option("--again", is_flag=True, help="They had unsubscribed, and want it back.")
@who_option
@with_services
def add(
    services: Services,
    task: str,
    addresses: tuple[str, ...],
    *,
    cron: str,
    zone: str,
    again: bool,
    who: str,
    as_json: bool,
) -> None:
    """Send TASK's digests to each ADDRESS, in a mail of its own, from the next report on.

    Again for the same address: by another schedule.
    """
    task_spec(services.log, task)
    new = [Subscriber(task, one, "active", services.clock(), who, cron, zone) for one in addresses]
    made = [subscribers.add(services.log, one, again=again) for one in new]
    told = f"{', '.join(addresses)}: digests of {task} at {cron} in {zone}, sent by `headrace run digest`"
    print_answer(made, told, as_json=as_json)


@command.command("list", cls=Command)
@task_option
@with_services
def list_recipients(services: Services, *, task: str | None, as_json: bool) -> None:
    """List who gets digests, when, and what became of the last one; (all) are the recipients of --to."""
    settings = services.settings
    found = recipients(services.log, settings.digest_to, settings.digest_cron, settings.digest_zone)
    rows = [one for one in found if task in {None, one.subscriber.task}]
    columns = ("task", "address", "state", "cron", "zone", "last digest", "last refusal")
    print_records(rows, columns, _row, as_json=as_json)


def _row(one: Recipient) -> tuple[object, ...]:
    of = one.subscriber
    last = f"{iso(one.last.ts)} {one.last.verdict.state}" if one.last else None
    return of.task or "(all)", of.address, of.state, of.cron, of.zone, last, _refusal(one.refused)


def _refusal(told: Told | None) -> str | None:
    return f"{iso(told.ts)} {told.verdict.words}" if told else None


@command.command("remove", cls=Command)
@click.argument("task")
@click.argument("addresses", nargs=-1, required=True, type=ADDRESS, metavar="ADDRESS...")
@who_option
@with_services
def remove(services: Services, task: str, addresses: tuple[str, ...], *, who: str, as_json: bool) -> None:
    """Send TASK's digests to each ADDRESS no more."""
    made = [subscribers.remove(services.log, task, one, services.clock(), who) for one in addresses]
    print_answer(made, f"{', '.join(addresses)}: no more digests of {task}", as_json=as_json)
