"""headrace produce: a user's own data onto the log."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from headrace.pipelines.cli.options import Command, with_services
from headrace.pipelines.cli.output import print_answer
from headrace.pipelines.produce.producer import Producer, produce
from headrace.pipelines.wiring import Services


@click.command("produce", cls=Command)
@click.argument("file", type=click.File("rb"))
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Pack N of an agent's rows to one Arrow message.")
@click.option("--close", is_flag=True, help="End with a heartbeat to each partition, so that the windows close.")
@with_services
def command(services: Services, file: BinaryIO, *, batch: int | None, close: bool, as_json: bool) -> None:
    """Send FILE (- is stdin): one transition a line, as JSON.

    Bytes are sent as they are, so that bad lines reach the quarantine (`headrace rejected list`). The key is the
    line's agent_id, where it can be read: an agent's rows stay in order.
    """
    found = services.layout if batch or close else None
    if batch and found and batch > found.max_message_rows:
        raise click.BadParameter(f"at most {found.max_message_rows} rows a message are accepted", param_hint="--batch")
    producer = Producer(services.log, services.clock, found, pack=batch or 0, watch=close)
    with _progress(file) as advance:
        done = produce(file, file.name, producer, close=close, advance=advance)
    if done.doubtful:
        click.echo(
            f"{done.doubtful} of the lines will be rejected, the first because: {done.doubt} (sent all the same; "
            "after ingest: headrace rejected list)",
            err=True,
        )
    for reason in (*done.warnings, *done.open_windows):
        click.echo(reason, err=True)
    if close and not done.heartbeats:
        click.echo("no line was a transition of a known task, so there are no windows to close", err=True)
    beats = f", {done.heartbeats} of them heartbeats" if done.heartbeats else ""
    print_answer(done, f"{done.lines} lines sent as {done.messages} messages{beats}", as_json=as_json)


@contextmanager
def _progress(file: BinaryIO) -> Iterator[Callable[[int], None]]:
    """Show a bar of the bytes read, if a person watches; give what moves it on."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 slow to load, and only people need it
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        size = os.fstat(file.fileno()).st_size if file.seekable() else None
        task = bar.add_task("", total=size)
        yield lambda read: bar.advance(task, read)
