"""The real stack, measured: Kafka, Cassandra and Redis of the bench's own, on this machine.

make bench-servers [MORE="--points 1,2,3,4,5,6 --rows 1000000 --sustained --soak --minutes 20"]

Prints Markdown rows for docs/benchmarks.md: figure, measured, target. Under ten minutes on two quiet cores without
the soak and the sustained run; the load of the machine stands in the first row.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import bench_servers_live as live

from headrace.pipelines.bench import ingest as bench_ingest
from headrace.pipelines.bench.scratch import scratch
from headrace.pipelines.settings import Settings, read_settings
from headrace.schemas.url import parse_url
from local_servers import Cassandra, Kafka, Redis, processes, start, temporary

FOLDER = Path(__file__).parent
FEW_ROWS = 250_000
SMALL_REDIS_MB = 10
"""Room for a tenth of the look-ups' 75 MB, and Redis's own megabyte."""


@contextmanager
def servers() -> Iterator[tuple[Settings, Redis]]:
    """Start the servers; give the settings, and a small Redis besides."""
    with temporary() as folder:
        kafka, cassandra = Kafka(folder / "kafka"), Cassandra(folder / "cassandra")
        redis, small = Redis(folder / "redis"), Redis(folder / "small")
        small.memory_mb = SMALL_REDIS_MB
        start(cassandra, kafka, redis, small)
        yield read_settings({"log": kafka.url, "index": cassandra.url, "cache": redis.url}), small
        held = ", ".join(f"{s.name} {processes.memory_mb(s.pid)}" for s in (kafka, cassandra, redis))
        row("memory of the servers in the end, MiB", held)


def row(figure: str, measured: object, target: str = "") -> None:
    """One row of the table."""
    print(f"| {figure} | {measured} | {target} |", flush=True)


def bench(settings: Settings, *options: str) -> list[dict]:
    """Run `headrace bench`; its records."""
    command = [*live.HEADRACE, "bench", *options, "--json"]
    done = subprocess.run(command, env=live.environment(settings), stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def peers(settings: Settings, rows: int) -> dict[str, dict]:
    """Run the floor and stock Bytewax on the same messages."""
    found = {}
    for name, count in (("floor", rows), ("bytewax", FEW_ROWS)):
        with scratch(settings) as place:
            sent = bench_ingest.prepare(place, bench_ingest.Load(rows=count, warm_up=0))
            command = [sys.executable, str(FOLDER / "bench_servers_peers.py"), name, place.log.text, str(sent)]
            environment = {**live.environment(place), "PYTHONPATH": str(FOLDER)}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def thousands(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.0f} k"


def ingested(record: dict) -> str:
    """A whole run's figures in words."""
    parts = ", ".join(f"{name} {s:.2f}" for name, s in record["server_cpu_s_per_million"].items())
    return (
        f"{thousands(record['rows_per_s'])}/s; {record['cpu_s_per_million']:.2f} CPU-s of ours a million; "
        f"servers: {parts}; load {record['load']}"
    )


def per_chunk(record: dict) -> str:
    return f"{record['rows_per_chunk']:.0f} rows a chunk"


def without_and_with_store(settings: Settings, rows: int, points: set[int]) -> None:
    """Points 1 and 2."""
    for form, count, floor_target, whole_target in (
        ("json", rows, "≥ the floor, ≥ 4 times Bytewax", "≥ 280 k/s, ≤ 2.8 CPU-s"),
        ("arrow", 3 * rows, "≥ 1.3 M", "≥ 500 k/s, ≤ 1.4 CPU-s"),
    ):
        asked = ("--format", form, "--rows", str(count))
        found = {r["depth"]: r for r in bench(settings, "ingest", *asked)}
        if 1 in points:
            bare, decode = found["no store"], found["decode"]
            row(f"{form}, decode only: rows per CPU-s", thousands(decode["rows_per_cpu_s"]))
            measured = thousands(bare["rows_per_cpu_s"])
            if form == "json":
                least = {name: peer["rows"] / peer["cpu_s"] for name, peer in peers(settings, rows).items()}
                row("floor: consume(), msgspec, sums in a loop: rows per CPU-s", thousands(least["floor"]))
                row("stock Bytewax, a callback a transition: rows per CPU-s", thousands(least["bytewax"]))
                ratios = [bare["rows_per_cpu_s"] / least[name] for name in ("floor", "bytewax")]
                measured += f": {ratios[0]:.2f} of the floor, {ratios[1]:.1f} times Bytewax"
            row(f"{form}, to windows, no store: rows per CPU-s", measured, floor_target)
        if 2 in points:
            (minute,) = bench(settings, "ingest", *asked, "--depth", "whole", "--window-ms", "60000")
            for name, record in (("10 s", found["whole"]), ("a minute", minute)):
                row(f"{form}, the whole way, windows of {name} ({per_chunk(record)})", ingested(record), whole_target)


def many_agents(settings: Settings, rows: int) -> None:
    """Point 3; its second half is measured with point 5."""
    (record,) = bench(settings, "ingest", "--agents", "10000", "--rows", str(rows), "--depth", "whole")
    row("json, 10,000 agents, the whole way", ingested(record), "≥ 180 k/s")


def lookups(settings: Settings, small: Redis) -> None:
    """Point 4."""
    for record in bench(settings, "lookup"):
        looked_up(record, f"{record['cache']}, {record['ends_with']}")
    tenth = replace(settings, cache=parse_url(f"{small.url}?memory=0"))
    for record in bench(tenth, "lookup", "--only", "configured"):
        looked_up(record, f"Redis of {SMALL_REDIS_MB} MB, {record['ends_with']}")


def looked_up(record: dict, name: str) -> None:
    hits = f"hits {record['hit_rate']:.3f} of {record['perfect_lfu_hit_rate']:.3f} ({record['entries_held']} held)"
    times = f"p50 {record['p50_ms_at_half_peak']} ms, p95 {record['p95_ms_at_half_peak']} ms at half of that"
    cached = record["cache"] in {"configured", "far"} and record["hit_rate"] > 0.999
    target = "≥ 34.4 k/s" if cached else "hits ≥ .85 of the ceiling, p95 ≤ 6.9 ms"
    row(
        f"look-ups, {name} (batch {record['batch']}, {record['concurrency']} process)",
        f"{record['lookups_per_s'] / 1e3:.1f} k/s; {record['cpu_us_per_lookup']} CPU-µs; {hits}; {times}",
        target if record["cache"] != "none" else "",
    )


def fresh(settings: Settings) -> None:
    """Points 3 and 5."""
    found = live.freshness(settings)
    row("10,000 agents at one a second: share of a core", f"{found['core_share']:.2f} at {found['rows_per_s']}/s")
    row(
        "produce() to visible in query", f"p50 {found['visible_p50_ms']}, p95 {found['visible_p95_ms']} ms", "≤ 1500 ms"
    )
    row(
        "window's end + grace to its summary on windows",
        f"p50 {found['told_p50_ms']}, p95 {found['told_p95_ms']} ms",
        "≤ 1000 ms",
    )


def two_processes(settings: Settings, rows: int) -> None:
    """Point 6."""
    for count in (1, 2):
        found = live.rate(settings, count, 2 * rows)
        row(
            f"json, {count} ingest process{'es' if count > 1 else ''}",
            f"{thousands(found['rows_per_s'])}/s, {found['cpu_s_per_million']} CPU-s a million",
        )


def soaked(settings: Settings, minutes: float, rows_per_s: float) -> None:
    found = live.soak(settings, rows_per_s, minutes)["minutes"]
    rates, memory = [m["rows_per_s"] for m in found], [m["memory_mb"] for m in found]
    lag = max(m["lag_rows"] for m in found)
    row(
        f"soak, arrow, {minutes:g} minutes at {thousands(rows_per_s)}/s",
        f"{thousands(min(rates[1:] or rates))} to {thousands(max(rates))}/s; memory {memory[0]} to {memory[-1]} MB "
        f"(most {max(memory)}); lag at most {thousands(lag)} rows",
        "flat, lag near 0",
    )


def sustained(settings: Settings) -> None:
    (record,) = bench(settings, "ingest", "--format", "arrow", "--sustained")
    row(f"arrow, {record['rows'] / 1e6:.0f} M rows, the whole way", ingested(record), "≥ 500 k/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", default="1,2,3,4,5,6", help="of issue 4, section Speed")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sustained", action="store_true", help="60 M rows as Arrow")
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the soak")
    parser.add_argument("--soak-rate", type=float, default=140_000.0, help="rows a second: half of the most")
    options = parser.parse_args()
    points = {int(point) for point in options.points.split(",") if point}
    began_s = time.perf_counter()
    print("| figure | measured | target |\n|---|---|---|")
    row("load of the machine before", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with servers() as (settings, small):
        bench(
            settings, "ingest", "--rows", str(options.rows // 2), "--depth", "whole"
        )  # a cold JVM takes thrice the CPU
        if points & {1, 2}:
            without_and_with_store(settings, options.rows, points)
        if 3 in points:
            many_agents(settings, options.rows)
        if 4 in points:
            lookups(settings, small)
        if points & {3, 5}:
            fresh(settings)
        if 6 in points:
            two_processes(settings, options.rows)
        if options.sustained:
            sustained(settings)
        if options.soak:
            soaked(settings, options.minutes, options.soak_rate)
    row("time that all of it took", f"{time.perf_counter() - began_s:.0f} s")


if __name__ == "__main__":
    main()
