"""headrace directive: what the advisor proposed, what became of it, and taking it back."""

from typing import Any

import click

from headrace.pipelines.cli.options import Command, task_option, with_services
from headrace.pipelines.cli.output import iso, print_answer, print_records
from headrace.pipelines.cli.policy import reason_option, who_option
from headrace.pipelines.policies.directing import undo as undone
from headrace.pipelines.published import directives
from headrace.pipelines.tasks import task_specs
from headrace.pipelines.wiring import Services
from headrace.schemas.directives import key_of
from headrace.schemas.records import Directive


@click.group("directive")
def command() -> None:
    """What the advisor proposed and what became of it; taking it back."""


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


@command.command("undo", cls=Command)
@click.argument("directive_id", metavar="DIRECTIVE")
@reason_option
@who_option
@with_services
def undo(services: Services, directive_id: str, *, reason: str, who: str, as_json: bool) -> None:
    """Take a directive back: `run learn` undoes it at its next version, as if it had never been."""
    task = directive_id.rsplit(".", 2)[0]
    record = undone(services.log, services.clock, task, directive_id, who, reason)
    print_answer(record, f"{directive_id} will be undone at the next version of {task}", as_json=as_json)
