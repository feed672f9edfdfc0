"""headrace narrator: the language model that narrates."""

import click

from headrace.pipelines.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "export": Lazy("narrator_export", "Write a data set to tune a model on."),
}


@click.group("narrator", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """The language model that narrates: tune a small one, and see how good it is."""
