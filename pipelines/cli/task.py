"""headrace task: add and list tasks."""

from typing import BinaryIO

import click
import msgspec

from headrace.pipelines.cli.options import Command, json_option, with_services
from headrace.pipelines.cli.output import print_json, print_table
from headrace.pipelines.tasks import TaskTable, add_task, task_specs
from headrace.pipelines.wiring import Services
from headrace.schemas.records import Layout, decode_task


@click.group("task")
def command() -> None:
    """Add and list tasks: what a fleet's transitions look like."""


@command.command("add", cls=Command)
@click.argument("file", type=click.File("rb"))
@json_option
@with_services
def add(services: Services, file: BinaryIO, *, as_json: bool) -> None:
    """Add the task that FILE describes; again the same is a no-op.

    \b
    {"task": "valve", "observations": ["x0", "x1"], "actions": ["open", "shut"], "window_ms": 10000}

    Optional: "groups", "reward_terms", "bounds" of observations, and {"low": [...], "high": [...]} as "actions"
    where they are continuous.
    """  # noqa: D301 \b is click's
    spec = decode_task(file.read())
    added = add_task(services.log, TaskTable(services.log, Layout(log="")), spec)
    if as_json:
        print_json([{"task": spec.task, "added": added}])
    else:
        click.echo(f"added task {spec.task}" if added else f"task {spec.task} is there already, with the same content")


@command.command("list", cls=Command)
@json_option
@with_services
def list_tasks(services: Services, *, as_json: bool) -> None:
    """List the tasks."""
    specs = [spec for _, spec in sorted(task_specs(services.log).items())]
    if as_json:
        print_json(msgspec.to_builtins(spec) for spec in specs)
        return
    rows = (
        (s.task, s.width, f"{s.action_count} {'names' if s.discrete else 'values'}", s.window_ms, s.groups)
        for s in specs
    )
    print_table(("task", "observations", "actions", "window_ms", "groups"), rows)
