"""headrace report: what the policies do and why."""

from typing import Any

import click

from headrace.pipelines import published
from headrace.pipelines.cli.options import Command, task_option, with_services
from headrace.pipelines.cli.output import iso, print_json, print_records
from headrace.pipelines.wiring import Services
from headrace.schemas.grounding import fill
from headrace.schemas.records import Report


@click.group("report")
def command() -> None:
    """What the policies do and why, in checked sentences."""


@command.command("list", cls=Command)
@task_option
@with_services
def list_reports(services: Services, *, task: str | None, as_json: bool) -> None:
    """List the reports."""
    columns = ("report", "task", "kind", "until (UTC)", "verdict")
    print_records(map(_shown, published.reports(services.log, task)), columns, _row, as_json=as_json)


def _shown(report: Report) -> dict[str, Any]:
    names = ("report_id", "task", "kind", "start_ms", "end_ms", "policy_version")
    verdict = fill(report.narrative.headline, report.facts)
    return {name: getattr(report, name) for name in names} | {"verdict": verdict}


def _row(shown: dict[str, Any]) -> tuple[Any, ...]:
    return shown["report_id"], shown["task"], shown["kind"], iso(shown["end_ms"]), shown["verdict"]


@command.command("show", cls=Command)
@click.argument("report_id")
@click.option("--html", is_flag=True, help="The whole page, plots inside: redirect it to a file.")
@with_services
def show(services: Services, report_id: str, *, html: bool, as_json: bool) -> None:
    """Print a report: Markdown, or HTML, or with --json as data."""
    if html and as_json:
        raise click.UsageError("--html and --json exclude each other")
    report = published.report(services.log, report_id)
    if as_json:
        print_json([report])
        return
    from headrace.pipelines.report import render  # noqa: PLC0415 it loads matplotlib

    click.echo(render.to_html(report) if html else render.to_markdown(report))
