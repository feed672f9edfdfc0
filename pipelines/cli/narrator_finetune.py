"""headrace narrator finetune."""

import sys
from pathlib import Path
from typing import Any

import click

from headrace.pipelines.cli.narrator_export import DATA
from headrace.pipelines.cli.options import INTERRUPTED, Command, json_option
from headrace.pipelines.cli.output import bar, echo, print_answer
from headrace.pipelines.runtime.stop import stopped_by_signals
from headrace.pipelines.tuning.finetuned import Order, default_base, finetune

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("finetune", cls=Command)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=DATA, show_default=True)
@click.option("--base", metavar="FILE", type=FILE, help="A GGUF file of SmolLM2's.  [default: SmolLM2-135M-Instruct]")
@click.option("--out", metavar="FILE", type=FILE, default=Path("narrator-tuned.gguf"), show_default=True)
@click.option("--layers", type=click.IntRange(1, 128), default=6, show_default=True, help="So many are kept, evenly.")
@click.option("--tokens", type=click.IntRange(512), default=8_192, show_default=True, help="The commonest are kept.")
@click.option("--steps", type=click.IntRange(1), default=200, show_default=True, help="Batches of eight pairs.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same weights.")
@json_option
def command(*, base: Path | None, as_json: bool, **asked: Any) -> None:  # noqa: ANN401
    """Tune a small model on what `headrace narrator export` wrote, on one core, in about a quarter of an hour.

    Few layers and the commonest tokens of it are kept, and all of these are trained. The file is for llama.cpp:
    `headrace narrator serve-local --model FILE`. A card beside it says what it was made of.

    Ctrl-C stops it and keeps the model as it is. It needs transformers and gguf: pip install 'headrace[tune]'.
    """
    order = Order(base=base or default_base(), **asked)
    stopped = []
    with stopped_by_signals(lambda: stopped.append(True)), bar("steps") as shown:

        def told(step: int, _: float) -> bool:
            shown(step, order.steps)
            return not stopped

        card = finetune(order, told)
    text = f"{order.out}: {card['bytes'] / 1e6:.1f} MB, {card['steps']:,d} steps in {card['seconds']} s, loss "
    text += f"{card['loss_first']:.2f} to {card['loss_last']:.2f} nats a token"
    print_answer(card, text, as_json=as_json)
    if card["steps"] < order.steps:
        echo(f"headrace: stopped at {card['steps']:,d} of {order.steps:,d} steps, and kept", err=True)
        sys.exit(INTERRUPTED)
