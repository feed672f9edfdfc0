"""headrace narrator promote."""

from pathlib import Path

import click

from headrace.pipelines.cli.narrator_evaluate import FACTS
from headrace.pipelines.cli.narrator_export import DATA
from headrace.pipelines.cli.narrator_finetune import FILE
from headrace.pipelines.cli.options import Command, json_option
from headrace.pipelines.cli.output import bar, print_answer


@click.command("promote", cls=Command)
@click.argument("model", metavar="FILE", type=FILE)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=DATA, show_default=True)
@click.option("--facts", type=FACTS, default=60, show_default=True, help="Compare on so many of those held out.")
@json_option
def command(*, model: Path, data: Path, facts: int, as_json: bool) -> None:
    """Let `headrace narrator serve-local` serve a model, if it is better than the one that it serves now.

    Both are asked about the same facts. No fewer sentences may be grounded, and more must be right, by an exact paired
    test. Else the model is refused, and it is said why. The more models were compared or evaluated on the same facts,
    the surer the test must be: that one ever passes by chance has a probability of 5 % at most.
    """
    from headrace.pipelines.tuning.evaluated import evaluate, questions  # noqa: PLC0415 --help needs no NumPy
    from headrace.pipelines.tuning.exported import read_facts  # noqa: PLC0415
    from headrace.pipelines.tuning.finetuned import check_data  # noqa: PLC0415
    from headrace.pipelines.tuning.promoted import place_among_tried, promote, serving_model  # noqa: PLC0415

    check_data(model, data)
    asked, against = questions(read_facts(data), facts), serving_model()
    with bar("facts") as shown:
        new = evaluate(model, asked, shown)
    with bar("facts") as shown:
        old = evaluate(against, asked, shown)
    card = promote(model, new, against, old, place_among_tried(model, data, len(asked)))
    told = f"{card['name']} is served from now on: {card['evaluation']['right']:.0%} of its sentences are right, of "
    told += f"{against.stem}'s {card['its_evaluation']['right']:.0%} (try {card['try']} on these facts, "
    told += f"which may err with probability {card['level']:.2g})"
    print_answer(card, told, as_json=as_json)
