"""headrace policy: the versions of a task's policy."""

from typing import Any

import click

from headrace.pipelines.cli.options import Command, json_option, with_services
from headrace.pipelines.cli.output import print_json, print_table
from headrace.pipelines.core.tasks import TaskTable
from headrace.pipelines.published import serving
from headrace.pipelines.wiring import Services
from headrace.schemas.records import Layout, PolicyVersion


@click.group("policy")
def command() -> None:
    """Policies, named TASK@VERSION."""


@command.command("list", cls=Command)
@click.option("--task", help="Only this task's.")
@json_option
@with_services
def list_policies(services: Services, *, task: str | None, as_json: bool) -> None:
    """List the versions: where each came from, how it did at the gate, and which one serves."""
    now = serving(services.log)
    table = TaskTable(services.log, Layout(log=""))
    table.refresh()
    rows = [
        _shown(version, serves=name in now and now[name].version == version.version)
        for name in ([task] if task else sorted(table.specs))
        for version in services.policies.versions(name)
    ]
    if as_json:
        print_json(rows)
        return
    columns = ("policy", "serves", "promoted", "mean_return", "updates", "parent", "hash", "reason")
    print_table(columns, ([_cell(row[column]) for column in columns] for row in rows))


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.2f}" if isinstance(value, float) else value


def _shown(version: PolicyVersion, *, serves: bool) -> dict[str, Any]:
    return {
        "policy": f"{version.task}@{version.version}",
        "task": version.task,
        "version": version.version,
        "parent": version.parent,
        "algorithm": version.algorithm,
        "hash": version.weights_hash,
        "promoted": version.promoted,
        "serves": serves,
        "mean_return": version.evaluation.get("policy"),
        "evaluation": version.evaluation,
        "environment_steps": version.environment_steps,
        "updates": version.updates,
        "chunks": len(version.lineage),
        "seed": version.seed,
        "reason": version.reason,
    }
