"""headrace index: the index as a whole."""

import click

from headrace.pipelines.cli.options import Command, with_services
from headrace.pipelines.cli.output import print_answer
from headrace.pipelines.query.index_hash import index_hash
from headrace.pipelines.wiring import Services


@click.group("index")
def command() -> None:
    """The index as a whole."""


@command.command("hash", cls=Command)
@with_services
def hash_index(services: Services, *, as_json: bool) -> None:
    """Print one SHA-256 over every chunk (uncompressed) and window row: the same for equal rows, in any backend."""
    _ = services.layout  # there is one, and it is this log's
    found = index_hash(services.index)
    print_answer({"index_hash": found}, found, as_json=as_json)
