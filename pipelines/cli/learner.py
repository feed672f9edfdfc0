"""headrace learner: by which settings a task is learned, and setting them."""

from typing import TYPE_CHECKING, Any

import click
import msgspec

from headrace.pipelines.cli.options import Command, with_services
from headrace.pipelines.cli.output import iso, print_answer, print_records
from headrace.pipelines.cli.policy import reason_option, who_option
from headrace.pipelines.published import directives
from headrace.pipelines.tasks import task_specs
from headrace.pipelines.topics import DIRECTIVES
from headrace.pipelines.wiring import Services
from headrace.schemas.directives import SETTING
from headrace.schemas.ports import Record
from headrace.schemas.records import Directive, PolicyVersion, TaskSpec

if TYPE_CHECKING:
    from headrace.learners.stream.stated import Learned

# ruff: noqa: PLC0415 the learners load torch


@click.group("learner")
def command() -> None:
    """By which settings a task is learned: show them, set them."""


@command.command("show", cls=Command)
@click.argument("task")
@with_services
def show(services: Services, task: str, *, as_json: bool) -> None:
    """Show every setting of a task's learner: its value, where that is from, and what the newest version had.

    `headrace run learn` may have other defaults, by its options.
    """
    from headrace.learners.stream.stated import ALGORITHM, learned_by, names_of, stated

    spec, records = _spec(services, task), directives(services.log, task)
    newest = next((one for one in reversed(services.policies.versions(task)) if one.lineage), None)
    begun = {ALGORITHM: newest.algorithm} if newest else {}
    learned = learned_by(spec, begun | stated(spec, records))
    sources = (
        dict.fromkeys(begun, "`run learn` began by it")
        | dict.fromkeys(spec.learner, "the task's file")
        | {one.target: f"{one.decided_by}, {iso(one.ts)}: {one.reason}" for one in _standing(records)}
    )
    rows = [
        {
            "setting": name,
            "value": _value(learned, name),
            "from": sources.get(name, "default"),
            "newest_version": _had(newest, name),
        }
        for name in (ALGORITHM, *names_of(learned.config))
    ]
    columns = ("setting", "value", "from", f"in {task}@{newest.version}" if newest else "in no version yet")
    print_records(rows, columns, lambda row: [_shown(cell) for cell in row.values()], as_json=as_json)


def _standing(records: list[Directive]) -> list[Directive]:
    newest = {one.directive_id: one for one in records if one.change == SETTING}
    return [one for one in newest.values() if one.verdict == "accepted"]


def _value(learned: "Learned", name: str) -> Any:  # noqa: ANN401 a setting's
    return getattr(learned.config if hasattr(learned.config, name) else learned.settings, name)


def _had(version: PolicyVersion | None, name: str) -> Any:  # noqa: ANN401 a setting's
    if version is None:
        return None
    return version.algorithm if name == "algorithm" else version.config.get(name)


def _shown(cell: object) -> object:
    if isinstance(cell, list | tuple):
        return " ".join(map(str, cell))
    return f"{cell:g}" if isinstance(cell, float) else cell


@command.command("set", cls=Command)
@click.argument("task")
@click.argument("named", nargs=-1, required=True, metavar="NAME=VALUE...")
@reason_option
@who_option
@with_services
def set_settings(
    services: Services, task: str, named: tuple[str, ...], *, reason: str, who: str, as_json: bool
) -> None:
    """Set settings of a task's learner; `run learn` goes by them from its next version on.

    The algorithm and what its net and replay are made by hold from where learning begins.
    """
    from headrace.learners.stream.algorithms import algorithm
    from headrace.learners.stream.stated import fixed_of, require_known, stated

    spec, records = _spec(services, task), directives(services.log, task)
    values = dict(_parsed(one) for one in named)
    config = require_known(spec, values, stated(spec, records))
    count = len({one.directive_id for one in records if one.change == SETTING})
    made = [
        Directive(
            directive_id=f"{task}.{SETTING}.{number}",
            task=task,
            change=SETTING,
            verdict="accepted",
            reason=reason,
            ts=services.clock(),
            target=name,
            value=float(value) if isinstance(value, int | float) else 0.0,
            text=msgspec.json.encode(value).decode(),
            proposed_by=who,
            decided_by=who,
        )
        for number, (name, value) in enumerate(values.items(), count + 1)
    ]
    services.log.send([Record(DIRECTIVES, task.encode(), msgspec.json.encode(one)) for one in made])
    begun = services.policies.load(task) is not None
    fixed = [name for name in values if begun and name in fixed_of(algorithm(config.algorithm))]
    print_answer(made, _effect(task, [*values], fixed, begun=begun), as_json=as_json)


def _effect(task: str, names: list[str], fixed: list[str], *, begun: bool) -> str:
    """Say from when on settings hold."""
    soon = [name for name in names if name not in fixed]
    when = "from its next version on" if begun else "from its first row on"
    told = [f"{task} is learned by {', '.join(soon)} as set {when}"] if soon else []
    if fixed:
        told.append(
            f"{', '.join(fixed)} of {task} will hold where learning begins: `headrace run learn --task {task} "
            "--from-start` begins it anew"
        )
    return "; ".join(told)


def _parsed(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE; a value is JSON, or the text itself; sizes may be separated by commas."""
    name, mark, value = text.partition("=")
    if not mark or not name or not value:
        raise click.UsageError(f"{text!r} is no setting: write NAME=VALUE, such as candidate_rows=10000")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        sizes = value.split(",")
        return name, [int(one) for one in sizes] if all(one.isdecimal() for one in sizes) else value


def _spec(services: Services, task: str) -> TaskSpec:
    specs = task_specs(services.log)
    if task not in specs:
        raise click.UsageError(f"there is no task {task!r}: `headrace task list` shows those that there are")
    return specs[task]
