"""Data to stdout: JSON lines for programs, tables for people. No text of others' commands a terminal."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TABLE_ROWS: Final = 20
"""Rows of a table unless --limit says otherwise."""
_WIDE: Final = 1_000
_COMMANDS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What a terminal obeys or is turned about by: C0 but for tab and line feed, C1, separators, directions of writing."""


def harmless(text: str) -> str:
    r"""Return a text in which each character that commands a terminal is written as JSON writes it: \u001b."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Write a text to stdout or stderr: what a command tells people goes out here."""
    click.echo(harmless(text), err=err, nl=nl)


def print_json(records: Iterable[Any]) -> None:
    """Write one JSON object a line, as they come."""
    encode = msgspec.json.Encoder().encode
    out = sys.stdout.buffer
    for record in records:
        line: bytes = encode(record)
        out.write((line if line.isascii() else harmless(line.decode()).encode()) + b"\n")
    out.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], limit: int | None = None) -> None:
    """Write at most `limit` rows under their columns' names, and say on stderr if there are more."""
    from rich.console import Console  # noqa: PLC0415 slow to load, and --json needs none of it
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    remaining = iter(rows)
    for row in islice(remaining, limit):
        table.add_row(*("" if cell is None else harmless(str(cell)) for cell in row))
    if sys.stdout.isatty():
        Console(markup=False, emoji=False, highlight=False).print(table)
    else:  # a pipe has no width: nothing is cut or folded
        _print_plain(Console(width=_WIDE, markup=False, emoji=False, highlight=False), table)
    if limit is not None and next(remaining, None) is not None:
        echo(f"the first {limit} are shown: --limit N shows more, --json all", err=True)


def print_records(
    records: Iterable[Any],
    columns: Sequence[str],
    row: Callable[[Any], Sequence[object]],
    *,
    as_json: bool,
    limit: int | None = None,
) -> None:
    """Write at most `limit` records: as JSON, or as a table that has `row` of each."""
    if as_json:
        print_json(islice(records, limit))
    else:
        print_table(columns, map(row, records), limit)


def print_answer(record: object, text: str, *, as_json: bool) -> None:
    """Write the one thing that a command has to say: a record for programs, a sentence for people."""
    if as_json:
        print_json([record])
    else:
        echo(text)


def print_markdown(text: str) -> None:
    """Write Markdown: laid out for a terminal of its width, as it is into a pipe."""
    if not sys.stdout.isatty():
        echo(text)
        return
    from rich.console import Console  # noqa: PLC0415 slow to load
    from rich.markdown import Markdown  # noqa: PLC0415

    Console(emoji=False, highlight=False).print(Markdown(harmless(text)))


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: 1 report, 2 reports."""
    return f"{count:,d} {noun}" if count == 1 else f"{count:,d} {noun}s"


def _print_plain(console: "Console", table: "Table") -> None:
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


@contextmanager
def bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that is told (done, total); a person who watches sees a bar on stderr, nobody else anything."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console  # noqa: PLC0415 slow to load
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(unit, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def iso(ms: int) -> str:
    """Return a time as people read it, UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
