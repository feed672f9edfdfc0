"""headrace narrator finetune-service."""

from pathlib import Path

import click

from headrace.pipelines.cli.narrator_export import DATA
from headrace.pipelines.cli.options import Command, json_option
from headrace.pipelines.cli.output import echo, print_answer
from headrace.pipelines.tuning.by_service import tuned_by_service
from headrace.schemas.url import parse_url


@click.command("finetune-service", cls=Command)
@click.argument("url")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=DATA, show_default=True)
@click.option("--job", metavar="ID", help="Wait for a job that was begun before, rather than begin one.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@json_option
def command(*, url: str, data: Path, job: str | None, seed: int, as_json: bool) -> None:
    """Let a service tune a model on what `headrace narrator export` wrote. URL: openai:MODEL[?base_url=...].

    Both files of pairs go to the service; no name and no number of yours is in them. Then it waits. Ctrl-C ends the
    waiting, not the job: --job ID waits again. OpenAI itself has been closed to new accounts for fine-tuning since May
    2026; other services speak the same protocol.
    """

    def told(begun: str, status: str) -> None:
        echo(f"job {begun}: {status}", err=True)

    model = tuned_by_service(parse_url(url), data, job, seed, told)
    _, _, options = url.partition("?")
    narrator = f"openai:{model}?{options}&ask=fact" if options else f"openai:{model}?ask=fact"
    print_answer({"model": model, "narrator": narrator}, f"HEADRACE_NARRATOR={narrator!r}", as_json=as_json)
