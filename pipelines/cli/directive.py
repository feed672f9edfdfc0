"""headrace directive: what the advisor proposed, what became of it, and what people decide."""

from typing import Any

import click

from headrace.pipelines.cli.options import Command, task_option, with_services
from headrace.pipelines.cli.output import iso, print_answer, print_records
from headrace.pipelines.cli.policy import reason_option, who_option
from headrace.pipelines.policies.directing import Act, direct, told
from headrace.pipelines.published import directives
from headrace.pipelines.tasks import task_specs
from headrace.pipelines.wiring import Services
from headrace.schemas.directives import key_of
from headrace.schemas.records import Directive


@click.group("directive")
def command() -> None:
    """What the advisor proposed and what became of it; deciding on it."""


@command.command("list", cls=Command)
@task_option
@click.option("--standing", is_flag=True, help="Only those that are in force.")
@with_services
def list_directives(services: Services, *, task: str | None, standing: bool, as_json: bool) -> None:
    """List the directives, each as it stands now: the change, the verdict, who gave it and why."""
    names = [task] if task else sorted(task_specs(services.log))
    found = [one for name in names for one in _newest(services, name).values()]
    kept = [one for one in found if not standing or one.verdict in {"accepted", "undo"}]
    columns = ("directive", "time", "setting", "from", "to", "verdict", "by", "proposed by", "reason")
    print_records(kept, columns, _row, as_json=as_json)


def _newest(services: Services, task: str) -> dict[str, Directive]:
    return {one.directive_id: one for one in directives(services.log, task)}


def _row(one: Directive) -> tuple[Any, ...]:
    previous = "" if one.previous is None else f"{one.previous:g}"
    setting, value = key_of(one.change, one.target), one.text or f"{one.value:g}"
    decided = (one.verdict, one.decided_by, one.proposed_by, one.reason)
    return (one.directive_id, iso(one.ts), setting, previous, value, *decided)


def deciding(act: Act, about: str) -> None:
    """Add a command by which a person decides on a directive."""

    @command.command(act, cls=Command, help=about)
    @click.argument("directive_id", metavar="DIRECTIVE")
    @reason_option
    @who_option
    @with_services
    def call(services: Services, directive_id: str, *, reason: str, who: str, as_json: bool) -> None:
        task = directive_id.rsplit(".", 2)[0]
        record = direct(services.log, services.clock, task, directive_id, act, who, reason)
        print_answer(record, told(record, act), as_json=as_json)


deciding("approve", "Let a proposed change be made: `run learn` checks it at its next version, and makes it.")
deciding("reject", "Refuse a proposed change.")
deciding("undo", "Take a directive back: `run learn` undoes it at its next version, as if it had never been.")
