"""headrace bench: how fast the configured backends are."""

from operator import itemgetter
from typing import Any

import click

from headrace.pipelines.bench import ingest as bench_ingest
from headrace.pipelines.bench import lookup as bench_lookup
from headrace.pipelines.bench import rows as bench_rows
from headrace.pipelines.cli.options import Command, Within, with_settings
from headrace.pipelines.cli.output import print_records
from headrace.pipelines.settings import Settings

SUSTAINED_ROWS = 60_000_000


@click.group("bench")
def command() -> None:
    """How fast the configured log, index and cache are, measured in a place of its own.

    Topics, keyspace and keys of their own are made beside yours, on the same servers, and removed in the end; your
    rows are never read or written. The servers do feel the load: a cache that is full forgets its oldest entries.

    \b
    headrace bench ingest                        JSON: decode only, no store, the whole way
    headrace bench ingest --format arrow         messages of 256 rows
    headrace bench lookup --json                 chunks by reference: rate, hits, latency

    CPU-s are this process's own; a server's are told where it runs on this machine.
    """  # noqa: D301 \b is click's


@command.command("ingest", cls=Command)
@click.option("--rows", type=click.IntRange(1), default=1_000_000, show_default=True, help="Rows that are timed.")
@click.option(
    "--warm-up", type=click.IntRange(0), default=200_000, show_default=True, help="Rows before them, which are not."
)
@click.option("--seconds", type=Within(0, 86_400, min_open=True), help="Stop each depth after so long.")
@click.option(
    "--format",
    "form",
    type=click.Choice(bench_rows.FORMATS),
    default="json",
    show_default=True,
    help="json: a transition a message; arrow: 256 of one agent.",
)
@click.option("--agents", type=click.IntRange(1, 99_999), default=64, show_default=True)
@click.option("--partitions", type=click.IntRange(1, 256), default=4, show_default=True)
@click.option(
    "--window-ms",
    type=click.IntRange(1),
    default=bench_rows.SPEC.window_ms,
    show_default=True,
    help="Of event time. An agent emits a row each 100 ms (of more than 64 agents, each 2 s).",
)
@click.option(
    "--depth", "depths", type=click.Choice(bench_ingest.DEPTHS), multiple=True, help="Only these.  [default: each]"
)
@click.option("--sustained", is_flag=True, help=f"{SUSTAINED_ROWS // 1_000_000} M rows, the whole way only.")
@with_settings
def ingest(
    settings: Settings,
    *,
    depths: tuple[str, ...],
    sustained: bool,
    as_json: bool,
    **load: Any,  # noqa: ANN401
) -> None:
    """Measure ingest: rows a second, CPU seconds a million rows, and where they go.

    The rows (8 observations, 64 groups, windows of 100 steps unless told otherwise) are on the log before the clock
    starts. It runs from the end of the warm-up to the last commit.

    \b
    decode     read the log, decode, apply the rules
    no store   and chunk, fold windows, tell them, commit; no index, no cache
    whole      and write chunks, windows and decisions to index and cache, acknowledged

    Not in it: producing, joining the group, compaction after the end.
    """  # noqa: D301
    if sustained:
        depths, load["rows"] = depths or ("whole",), SUSTAINED_ROWS
    found = bench_ingest.measure(settings, bench_ingest.Load(**load), depths or bench_ingest.DEPTHS)
    columns = ("depth", "rows/s", "our CPU-s a million", "servers' CPU-s a million", "stage: CPU, wall µs a row")
    print_records(found, columns, _ingest_line, as_json=as_json)


def _ingest_line(record: dict[str, Any]) -> tuple[str, ...]:
    cpu, wall = record["stage_cpu_us_per_row"], record["stage_wall_us_per_row"]
    stages = [f"{name}: {cpu[name]:.2f}, {wall[name]:.2f}" for name in cpu]
    stages.append(f"other threads: {record['other_threads_cpu_us_per_row']:.2f}")
    servers = ", ".join(f"{name} {s:.2f}" for name, s in record["server_cpu_s_per_million"].items())
    first = (record["depth"], f"{record['rows_per_s']:,}", f"{record['cpu_s_per_million']:.2f}", servers)
    return (*first, "; ".join(stages))


@command.command("lookup", cls=Command)
@click.option("--chunks", type=click.IntRange(100), default=16_000, show_default=True, help="At least so many.")
@click.option("--zipf", type=Within(0, 10), default=0.99, show_default=True, help="The exponent of popularity.")
@click.option(
    "--cache-share", type=Within(0, 1), default=0.1, show_default=True, help="What `share` holds of the data."
)
@click.option("--batch", type=click.IntRange(1, 10_000), default=16, show_default=True, help="References a call.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that ask.")
@click.option(
    "--seconds", type=Within(0, 86_400, min_open=True), default=3.0, show_default=True, help="Of each measurement."
)
@click.option(
    "--only", "caches", type=click.Choice(bench_lookup.CACHES), multiple=True, help="Only these.  [default: each]"
)
@with_settings
def lookup(settings: Settings, *, caches: tuple[str, ...], as_json: bool, **asked: Any) -> None:  # noqa: ANN401
    """Measure look-ups of chunks by reference: rate, hit rate beside a perfect LFU's, latency at half the peak.

    \b
    configured  HEADRACE_CACHE, every chunk put into it before
    far         the same without the level in this process: Redis alone
    share       one level in this process that holds a share of the bytes
    none        no cache: the index answers

    A look-up ends with the payload's bytes, or with rows: decompressed, checked, decoded.
    """  # noqa: D301
    found = bench_lookup.measure(settings, bench_lookup.Lookups(**asked), caches or bench_lookup.CACHES)
    columns = ("cache", "ends with", "lookups/s", "CPU µs each", "hits", "perfect LFU", "p50 ms", "p95 ms")
    names = ("cache", "ends_with", "lookups_per_s", "cpu_us_per_lookup", "hit_rate", "perfect_lfu_hit_rate")
    latencies = ("p50_ms_at_half_peak", "p95_ms_at_half_peak")
    print_records(found, columns, itemgetter(*names, *latencies), as_json=as_json)
