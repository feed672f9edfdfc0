"""headrace ask."""

from zoneinfo import ZoneInfo

import click

from headrace.pipelines.cli.options import Command, Timestamp, with_services
from headrace.pipelines.cli.output import echo, print_json
from headrace.pipelines.wiring import Services, compose_ask
from headrace.schemas.errors import SettingsError


@click.command("ask", cls=Command)
@click.argument("question", nargs=-1, required=True)
@click.option("--task", help="The task that is asked about, if the question does not name it.")
@click.option("--at", "at_ms", type=Timestamp(), help='What "now" is.  [default: the time of the newest row]')
@click.option("--zone", default="UTC", show_default=True, help="Of times in the question, such as Europe/Berlin.")
@with_services
def command(
    services: Services, *, question: tuple[str, ...], task: str | None, at_ms: int | None, zone: str, as_json: bool
) -> None:
    """Answer QUESTION about a decision, a version, the fleet or the data, by facts that are computed.

    Quote the question. docs/explanations.md lists what can be asked.
    """
    _ = services.layout  # there is one, and it is this log's
    try:
        of_times = ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise SettingsError(f"--zone {zone!r} is no time zone: write one such as Europe/Berlin") from error
    answer = compose_ask(services).ask(" ".join(question), of_times, task, at_ms)
    if as_json:
        print_json([answer])
    elif not answer.not_known:
        headline, *sentences = answer.sentences
        echo("\n".join([f"{headline}.", *(f"  {sentence}" for sentence in sentences)]))
    if answer.not_known:
        echo(f"not known: {answer.not_known}", err=True)
        raise click.exceptions.Exit(1)
