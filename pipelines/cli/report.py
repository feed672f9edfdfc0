"""headrace report: what the policies do and why."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from headrace.pipelines import published
from headrace.pipelines.cli.options import Command, task_option, with_services
from headrace.pipelines.cli.output import counted, echo, iso, print_answer, print_json, print_markdown, print_records
from headrace.pipelines.cli.policy import who_option
from headrace.pipelines.topics import RATINGS
from headrace.pipelines.wiring import Services
from headrace.schemas.errors import SettingsError
from headrace.schemas.grounding import fill
from headrace.schemas.ports import Record
from headrace.schemas.records import Rating, Report


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
    """Print a report: for a terminal, or as Markdown into a pipe; HTML, or with --json as data."""
    if html and as_json:
        raise click.UsageError("--html and --json exclude each other")
    report = published.report(services.log, report_id)
    if as_json:
        print_json([report])
        return
    from headrace.pipelines.report import render  # noqa: PLC0415 slow to load

    if html:
        echo(render.to_html(report))
    else:
        print_markdown(render.to_markdown(report))


@command.command("export", cls=Command)
@click.argument("report_ids", metavar="[REPORT_ID]...", nargs=-1)
@click.option("--all", "whole", is_flag=True, help="Every report, or every one of --task.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("reports"), show_default=True)
@task_option
@with_services
def export(
    services: Services, *, report_ids: tuple[str, ...], whole: bool, out: Path, task: str | None, as_json: bool
) -> None:
    """Write reports into a folder, each as a page, as Markdown and as data."""
    if whole == bool(report_ids):
        raise click.UsageError("name reports, or say --all")
    from headrace.pipelines.report.files import write_report  # noqa: PLC0415 slow to load

    found = published.reports(services.log, task) if whole else map(partial(published.report, services.log), report_ids)
    by_id = {one.report_id: one for one in found}  # a repeated one is the same
    try:
        out.mkdir(parents=True, exist_ok=True)
        paths = [str(write_report(one, out)) for one in by_id.values()]
    except OSError as error:
        raise SettingsError(f"{out} can't be written ({error}): name another folder by --out") from error
    told = f"{counted(len(paths), 'report')} in {out}: a page (.html), Markdown and data of each"
    print_answer({"reports": paths}, told, as_json=as_json)


@command.command("rate", cls=Command)
@click.argument("report_id")
@click.argument("rating", type=click.Choice(["up", "down"]))
@who_option
@with_services
def rate(services: Services, report_id: str, rating: str, *, who: str, as_json: bool) -> None:
    """Say whether a report was of use to you. A person's last word on a report holds; only thumbs are kept."""
    report = published.report(services.log, report_id)
    said = {"report_id": report_id, "task": report.task, "narrator": report.narrative.narrator[:200]}
    try:
        record = msgspec.convert(said | {"rating": rating, "who": who, "ts": services.clock()}, Rating)
    except msgspec.ValidationError as error:
        raise SettingsError(f"--who {who[:80]!r} is no name: write 1 to 64 of A-Z, a-z, 0-9, ., _, -") from error
    services.log.send([Record(RATINGS, f"{report_id}/{who}".encode(), msgspec.json.encode(record))])
    print_answer(record, f"{who} rates {report_id}: {rating}", as_json=as_json)


@command.command("ratings", cls=Command)
@task_option
@with_services
def list_ratings(services: Services, *, task: str | None, as_json: bool) -> None:
    """Count what people think of the reports, by who wrote their sentences."""
    found = published.ratings(services.log, task)
    counts = Counter((one.narrator, one.rating) for one in found)
    people = {one.narrator: {other.who for other in found if other.narrator == one.narrator} for one in found}
    told = [
        {"narrator": name, "up": counts[name, "up"], "down": counts[name, "down"], "people": len(people[name])}
        for name in sorted(people)
    ]
    columns = ("narrator", "up", "down", "people")
    print_records(told, columns, lambda one: tuple(one.values()), as_json=as_json)
