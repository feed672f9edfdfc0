"""headrace narrator: the language model that narrates."""

import click

from headrace.pipelines.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "serve-local": Lazy("narrator_serve", "Serve a small model on this machine."),
    "export": Lazy("narrator_export", "Write a data set to tune a model on."),
}


@click.group("narrator", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """The language model that narrates: serve a small one on this machine, and tune it."""
