"""headrace narrator serve-local."""

import logging
from pathlib import Path

import click

from headrace.pipelines.cli.logs import log_to_stderr
from headrace.pipelines.cli.options import Command, verbose_option
from headrace.pipelines.cli.output import echo
from headrace.pipelines.runtime.stop import stopped_by_signals

logger = logging.getLogger(__name__)


@click.command("serve-local", cls=Command)
@click.option(
    "--model",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A GGUF file.  [default: the newest that was promoted, else SmolLM2-135M-Instruct]",
)
@click.option("--port", type=click.IntRange(0, 65_535), default=8_080, show_default=True, help="0: any that is free.")
@verbose_option
def command(*, model: Path | None, port: int, verbose: bool) -> None:
    """Serve a small language model on this machine, on one core and without a key, to this machine alone.

    Prints the URL of the narrator that asks it, for --narrator or HEADRACE_NARRATOR. It needs llama-cpp-python:
    pip install 'headrace[local]', which takes some minutes, as it compiles llama.cpp.
    """
    from headrace.pipelines.tuning.promoted import serving_model  # noqa: PLC0415
    from headrace.sinks.llama.engine import Engine  # noqa: PLC0415 --help needs no NumPy
    from headrace.sinks.llama.server import LocalServer  # noqa: PLC0415

    log_to_stderr(verbose=verbose)
    server = LocalServer(Engine(model or serving_model()), port)
    try:
        with stopped_by_signals(server.stop):
            echo(f"openai:{server.engine.name}?base_url={server.base_url}&ask=fact")
            logger.info("serving %s at %s", server.engine.name, server.base_url)
            server.serve_forever(poll_interval=0.1)
    finally:
        server.close()
