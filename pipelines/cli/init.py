"""headrace init: topics and layout, once."""

import click
import msgspec

from headrace.pipelines.cli.options import BYTES, MILLISECONDS, Command, Quantity, with_settings
from headrace.pipelines.cli.output import echo, print_answer
from headrace.pipelines.layout import DEFAULT_PARTITIONS, retain
from headrace.pipelines.settings import Settings
from headrace.pipelines.topics import INGEST, TRANSITIONS
from headrace.pipelines.wiring import open_services
from headrace.schemas.records import Layout

_DEFAULT = Layout(log="")


@click.command("init", cls=Command)
@click.option(
    "--partitions", type=click.IntRange(1, 8192), help=f"Partitions of the topics.  [default: {DEFAULT_PARTITIONS}]"
)
@click.option(
    "--segment",
    type=click.IntRange(1, 1 << 30),
    help=f"Messages a chunk is made of at most: 64 suits messages of 256 rows.  [default: {_DEFAULT.segment}]",
)
@click.option(
    "--grace-ms",
    type=click.IntRange(0),
    help=f"How long after its end a window waits for stragglers.  [default: {_DEFAULT.grace_ms}]",
)
@click.option(
    "--max-clock-skew-ms",
    type=click.IntRange(0),
    help=f"How far ahead of the log's clock an event may be.  [default: {_DEFAULT.max_clock_skew_ms}]",
)
@click.option(
    "--sample-every",
    type=click.IntRange(0, 1 << 32),
    help="One in so many decisions is kept for `query similar`: 1 for a small log, 0 for none.  "
    f"[default: {_DEFAULT.sample_every}]",
)
@click.option(
    "--retention",
    type=Quantity(MILLISECONDS, "7d"),
    help="How long a log on SQLite keeps rows, windows and what was rejected, such as 36h or 7d; none: for ever, as "
    "without it. What a job has yet to commit stays. It may be changed at any time.",
)
@click.option(
    "--retention-size",
    type=Quantity(BYTES, "2GB"),
    help="How much of each it keeps, such as 500MB or 2GB.",
)
@with_settings
def command(
    settings: Settings, *, retention: int | None, retention_size: int | None, as_json: bool, **values: int | None
) -> None:
    """Make the log's topics and the index's layout.

    Running it again is harmless; other values than the first time's are an error, as they would change what the
    index holds.
    """
    with open_services(settings, create=True) as services:
        new_index = services.index.layout() is None
        layout = services.initialise(**values)
        if retention is not None or retention_size is not None:
            retain(services.log, layout, retention or None, retention_size or None)
        found = {"partitions": services.log.topic(TRANSITIONS).partitions, **msgspec.structs.asdict(layout)}
        ingested = sum(commit.offset for commit in services.log.committed(INGEST, TRANSITIONS).values())
    if new_index and ingested:
        echo(
            f"note: {ingested} messages of this log were ingested into another index: `run ingest --from-start` "
            "reads them again into this one (to the same rows, if --segment and the other options are as they were)",
            err=True,
        )
    told = f"ready: log {settings.log} with {found['partitions']} partitions, index {settings.index} "
    told += f"in segments of {layout.segment}\nnext: headrace task add FILE.json"
    print_answer(found, told, as_json=as_json)
