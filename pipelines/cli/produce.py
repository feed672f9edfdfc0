"""headrace produce: a user's own data onto the log."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from headrace.pipelines.cli.options import Command, with_services
from headrace.pipelines.cli.output import counted, echo, print_answer
from headrace.pipelines.produce.producer import Produced, Producer, produce
from headrace.pipelines.wiring import Services
from headrace.schemas.errors import HeadraceError
from headrace.schemas.records import Layout


@click.command("produce", cls=Command)
@click.argument("file", type=click.File("rb"))
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Pack N of an agent's rows to one Arrow message.")
@click.option("--close", is_flag=True, help="End with a heartbeat to each partition, so that the windows close.")
@click.option("--check", is_flag=True, help="Send nothing; say what ingest would reject (exit status 1).")
@click.option("--anyway", is_flag=True, help="Send also where every line will be rejected.")
@with_services
def command(
    services: Services, file: BinaryIO, *, batch: int | None, close: bool, check: bool, anyway: bool, as_json: bool
) -> None:
    """Send FILE (- is stdin): one transition a line, as JSON.

    Each line is judged by the rules of ingest first. Bad lines are named, and sent as they are: they reach the
    quarantine (`headrace rejected list`). Where every line is bad nothing is sent. The key is the line's agent_id,
    where it can be read: an agent's rows stay in order.
    """
    found = _layout(services, needed=bool(batch or close))
    if batch and batch > found.max_message_rows:
        raise click.BadParameter(f"at most {found.max_message_rows} rows a message are accepted", param_hint="--batch")
    producer = Producer(services.log, services.clock, found, pack=batch or 0, check=check, anyway=anyway)
    with _progress(file) as advance:
        done = produce(file, file.name, producer, close=close and not check, advance=advance)
    _tell(done, check=check)
    if check:
        good = done.lines - done.rejected.lines
        print_answer(done, f"{counted(done.lines, 'line')}, {good:,} of them good; nothing was sent", as_json=as_json)
        sys.exit(1 if done.rejected else 0)
    if close and not done.heartbeats:
        echo("no line was a transition of a known task, so there are no windows to close", err=True)
    beats = f", of them {counted(done.heartbeats, 'heartbeat')}" if done.heartbeats else ""
    sent = f"{counted(done.lines, 'line')} sent as {counted(done.messages, 'message')}{beats}"
    print_answer(done, sent, as_json=as_json)


def _layout(services: Services, *, needed: bool) -> Layout:
    """Return the index's layout; where a producer can't reach the index, one of the same limits as most have."""
    try:
        return services.layout
    except HeadraceError as error:
        if needed:
            raise
        echo(f"lines are judged by headrace's default limits: {error}", err=True)
        return Layout(log="")


def _tell(done: Produced, *, check: bool) -> None:
    """Say on stderr what is wrong."""
    if not done.lines:
        echo("there is no line in it", err=True)
    if done.rejected:
        then = "would be rejected" if check else "will be rejected, into the quarantine (headrace rejected list)"
        echo(f"{done.rejected.lines} of {done.lines} lines {then}:", err=True)
    for text in (*(f"  {told}" for told in done.rejected.told()), *done.open_windows):
        echo(text, err=True)


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
