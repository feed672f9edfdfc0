"""headrace query: windows, chunks and transitions of a task."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import click

from headrace.pipelines import query
from headrace.pipelines.cli.options import Command, Moment, json_option, with_services
from headrace.pipelines.cli.output import TABLE_ROWS, iso, print_json, print_table
from headrace.pipelines.query import Selection
from headrace.pipelines.wiring import Services, layout
from headrace.schemas.ports import Index

Ask = Callable[[Index, Selection], Iterator[dict[str, Any]]]
Row = Callable[[dict[str, Any]], Sequence[object]]


@click.group("query")
def command() -> None:
    """Ask the index. A transition's time is its ts, a window's and a chunk's the window's start."""


def _asking(name: str, help_text: str, ask: Ask, columns: Sequence[str], row: Row) -> None:
    """Make the command that asks for one kind of thing."""

    @command.command(name, cls=Command, help=help_text)
    @click.option("--task", required=True, help="The task's name.")
    @click.option("--agent", help="Only this agent's transitions; windows and chunks: those that hold some.")
    @click.option("--from", "start", type=Moment(), help="Only from this time on.")
    @click.option("--to", "end", type=Moment(), help="Only before this time.")
    @click.option("--limit", type=click.IntRange(0), help=f"At most so many.  [default: {TABLE_ROWS}; --json: all]")
    @json_option
    @with_services
    def run(
        services: Services,
        *,
        task: str,
        agent: str | None,
        start: int | None,
        end: int | None,
        limit: int | None,
        as_json: bool,
    ) -> None:
        layout(services)
        selection = Selection(query.task_spec(services.log, task), agent, start, end)
        found = ask(services.index, selection)
        if as_json:
            print_json(islice(found, limit))
        else:
            print_table(columns, map(row, found), TABLE_ROWS if limit is None else limit)


_asking(
    "windows",
    "What happened in each window: the fold of its chunks' statistics, with their references.",
    query.windows,
    ("start (UTC)", "group", "partition", "agents", "rows", "duplicates", "mean reward", "episodes ended"),
    lambda w: (
        iso(w["start_ms"]),
        w["group"],
        w["partition"],
        len(w["agents"]) or "many",
        w["rows"],
        w["duplicates"],
        f"{w['totals']['reward_sum'] / w['rows']:.4g}",
        w["totals"]["episode_ends"],
    ),
)
_asking(
    "chunks",
    "The stored rows' containers: key, rows, checksum, size, and the totals of their statistics.",
    query.chunks,
    ("start (UTC)", "group", "partition", "segment", "part", "rows", "bytes", "checksum"),
    lambda c: (
        iso(c["start_ms"]),
        c["group"],
        c["partition"],
        c["segment"],
        c["part"],
        c["rows"],
        c["bytes"],
        f"{c['checksum']:08x}",
    ),
)
_asking(
    "transitions",
    "The transitions, each as it was sent; repeated ones once.",
    query.transitions,
    ("time (UTC)", "agent", "episode", "step", "action", "reward", "end"),
    lambda t: (
        iso(t["ts"]),
        t["agent_id"],
        t["episode_id"],
        t["step"],
        t["action"],
        f"{t['reward']:.6g}",
        "terminated" if t["terminated"] else "truncated" if t["truncated"] else "",
    ),
)
