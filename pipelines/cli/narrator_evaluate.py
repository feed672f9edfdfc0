"""headrace narrator evaluate."""

from pathlib import Path
from typing import Any

import click

from headrace.pipelines.cli.narrator_export import DATA
from headrace.pipelines.cli.narrator_finetune import FILE
from headrace.pipelines.cli.options import Command, json_option
from headrace.pipelines.cli.output import bar, print_records

FACTS = click.IntRange(1, 10_000)
COLUMNS = {
    "model": "model",
    "right": "right",
    "grounded": "grounded",
    "right_kind": "right kind",
    "stance_without_schema": "stance, no schema",
    "connective_faults": "connectives",
    "distinct": "distinct",
    "milliseconds_p50": "ms p50",
    "milliseconds_p95": "ms p95",
    "cpu_milliseconds_p50": "CPU ms p50",
}


@click.command("evaluate", cls=Command)
@click.argument("models", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=DATA, show_default=True)
@click.option("--facts", type=FACTS, default=60, show_default=True, help="Ask about so many of those held out.")
@json_option
def command(*, models: tuple[Path, ...], data: Path, facts: int, as_json: bool) -> None:
    """Ask models about facts that are held out, and say how good their sentences are.

    Right is a sentence that is grounded, in words of its fact's kind, and joined to no other. Each model is asked by
    the schema, and once more without, to see whether it knows the direction by itself. To `headrace narrator promote`
    a model that is evaluated counts as one that is tried.
    """
    from headrace.learners.tuning.scores import figures  # noqa: PLC0415 --help needs no NumPy
    from headrace.pipelines.tuning.evaluated import evaluate, questions  # noqa: PLC0415
    from headrace.pipelines.tuning.exported import read_facts  # noqa: PLC0415
    from headrace.pipelines.tuning.promoted import place_among_tried  # noqa: PLC0415

    asked, found = questions(read_facts(data), facts), []
    for model in models:
        with bar(model.stem) as shown:
            found.append({"model": model.stem, **figures(evaluate(model, asked, shown))})
        place_among_tried(model, data, len(asked))

    def row(one: dict[str, Any]) -> list[Any]:
        return [one[name] for name in COLUMNS]

    print_records(found, tuple(COLUMNS.values()), row, as_json=as_json)
