"""headrace task: add and list tasks."""

from typing import BinaryIO

import click

from headrace.pipelines.cli.options import Command, with_services
from headrace.pipelines.cli.output import print_answer, print_records
from headrace.pipelines.tasks import add_task, task_specs
from headrace.pipelines.wiring import Services
from headrace.schemas.errors import InvalidTaskError
from headrace.schemas.records import TaskSpec, decode_task


@click.group("task")
def command() -> None:
    """Add and list tasks: what a fleet's transitions look like."""


@command.command("add", cls=Command)
@click.argument("file", type=click.File("rb"))
@with_services
def add(services: Services, file: BinaryIO, *, as_json: bool) -> None:
    """Add the task that FILE describes; again the same is a no-op.

    \b
    {"task": "valve", "observations": ["x0", "x1"], "actions": ["open", "shut"], "window_ms": 10000}

    Optional: "groups", "reward_terms", "bounds" of observations, "oldest_ms" (0 where the clock begins at 0), and
    {"low": [...], "high": [...]} as "actions" where they are continuous. "environment", a Gymnasium id, with
    "environment_kwargs": what the task's policies are judged in. It must fit the task, and be installed here and where
    `run learn` runs. "learner": {...}, settings that `headrace learner show` lists. "outcomes": [...], the numbers that
    windows and reports tell first:

    \b
    {"name": "time above 5 bar", "unit": "%", "better": "lower", "of": {"observation": "x0", "next": true},
     "as": {"share_above": 5}}
    """  # noqa: D301 \b is click's
    spec = decode_task(file.read())
    _require_fit(spec)
    if spec.learner:
        from headrace.learners.stream.stated import require_known  # noqa: PLC0415 it loads torch

        require_known(spec, spec.learner)
    added = add_task(services.log, spec)
    told = f"added task {spec.task}" if added else f"task {spec.task} is there already, with the same content"
    print_answer({"task": spec.task, "added": added}, told, as_json=as_json)


def _require_fit(spec: TaskSpec) -> None:
    """Refuse an environment that can't be made, or has other observations or actions."""
    if spec.environment is None:
        return
    from headrace.learners.simulate.fitting import misfit  # noqa: PLC0415 Gymnasium is slow to load

    problem = misfit(spec)
    if problem:
        raise InvalidTaskError(f"task {spec.task}: {problem}")


@command.command("list", cls=Command)
@with_services
def list_tasks(services: Services, *, as_json: bool) -> None:
    """List the tasks."""
    specs = [spec for _, spec in sorted(task_specs(services.log).items())]
    print_records(specs, ("task", "observations", "actions", "window_ms", "groups"), _row, as_json=as_json)


def _row(spec: TaskSpec) -> tuple[object, ...]:
    actions = f"{spec.action_count} {'names' if spec.discrete else 'values'}"
    return spec.task, spec.width, actions, spec.window_ms, spec.groups
