"""headrace report: what the policies do and why."""

import sys

import click

from headrace.pipelines import published
from headrace.pipelines.cli.options import Command, json_option, task_option, with_services
from headrace.pipelines.cli.output import iso, print_json, print_table
from headrace.pipelines.wiring import Services
from headrace.schemas.grounding import fill


@click.group("report")
def command() -> None:
    """What the policies do and why, in checked sentences."""


@command.command("list", cls=Command)
@task_option
@json_option
@with_services
def list_reports(services: Services, *, task: str | None, as_json: bool) -> None:
    """List the reports."""
    rows = (
        {
            "report_id": report.report_id,
            "task": report.task,
            "kind": report.kind,
            "start_ms": report.start_ms,
            "end_ms": report.end_ms,
            "policy_version": report.policy_version,
            "verdict": fill(report.narrative.headline, report.facts),
        }
        for report in published.reports(services.log, task)
    )
    if as_json:
        print_json(rows)
    else:
        shown = ((r["report_id"], r["task"], r["kind"], iso(int(str(r["end_ms"]))), r["verdict"]) for r in rows)
        print_table(("report", "task", "kind", "until (UTC)", "verdict"), shown)


@command.command("show", cls=Command)
@click.argument("report_id")
@click.option("--html", is_flag=True, help="The whole page, plots inside: redirect it to a file.")
@json_option
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

    click.echo(render.to_html(report) if html else render.to_markdown(report), file=sys.stdout)
