"""headrace narrator: the language model that narrates."""

import click

from headrace.pipelines.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "serve-local": Lazy("narrator_serve", "Serve a small model on this machine."),
    "export": Lazy("narrator_export", "Write a data set to tune a model on."),
    "finetune": Lazy("narrator_finetune", "Tune a small model on a data set."),
    "finetune-service": Lazy("narrator_finetune_service", "Let a service tune a model on a data set."),
    "evaluate": Lazy("narrator_evaluate", "How good models' sentences are, on facts held out."),
    "promote": Lazy("narrator_promote", "Let a tuned model be served, if it is better."),
}


@click.group("narrator", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """The language model that narrates: serve a small one on this machine, and tune it."""
