"""The pure path: bytes -> validated -> chunks with payload and stats -> window summaries, in memory.

Run: `python tests/bench/bench_ingest.py [rows]`. One JSON line each: CPU seconds of the fastest third of the segments
(what else the machine does only adds), wall seconds beside, and a floor measured between them: msgspec decoding the
same messages, and a plain loop that adds up rewards. Run with OMP_NUM_THREADS=1.
"""

import sys
from collections.abc import Callable, Iterator
from itertools import islice

import msgspec
import naive
import numpy as np
from timing import best_s, report, timed

from headrace.pipelines.bench import rows as bench_rows
from headrace.pipelines.bench.process import memory_mb
from headrace.pipelines.bench.rows import SEGMENT, SPEC
from headrace.pipelines.ingest.items import Opened
from headrace.pipelines.ingest.partition import open_partition
from headrace.schemas import codec
from headrace.schemas.checker import known_task
from headrace.schemas.chunk import decode_chunk, encode_chunk
from headrace.schemas.ports import Headers, MessageBatch
from headrace.schemas.records import Layout

APPEND_MS = 1_900_000_000_000
POLL = 4_096


def segments(form: str, agents: int) -> Iterator[list[bytes]]:
    """Segments without end: of one transition a message, or of messages of 256 rows of one agent."""
    return ([record.value for record in records] for _, records in bench_rows.messages(form, agents, 1 << 60))


def messages(values: list[bytes], first: int, headers: Headers) -> MessageBatch:
    count = len(values)
    offsets, append_ts = np.arange(first, first + count), np.full(count, APPEND_MS)
    return MessageBatch("transitions", 0, offsets, append_ts, [None] * count, list(values), [headers] * count)


class PurePath:
    """The pure path of one partition."""

    def __init__(self, form: str) -> None:
        self.layout = Layout(log="bench", segment=SEGMENT[form])
        self.tasks = {SPEC.task: known_task(SPEC, 0, self.layout)}
        self.fold = open_partition(Opened(0, 0, 0), self.layout, {SPEC.task: SPEC}, lambda *_: ())
        self.headers, self.offset = codec.ARROW_HEADERS if form == "arrow" else (), 0
        self.rows = self.bytes = self.windows = 0

    def run(self, values: list[bytes]) -> None:
        """Take in one segment."""
        for start in range(0, len(values), POLL):
            batch = messages(values[start : start + POLL], self.offset, self.headers)
            checked = codec.check(batch, self.tasks, self.layout)
            assert not checked.rejected, checked.rejected[0]
            self.offset += len(batch)
            self.fold.add(checked.batches, int(checked.stream_ts.max()), self.offset)
        folded = self.fold.fold()
        self.fold.confirm(folded.commit)
        self.rows += sum(row.rows for row in folded.chunks)
        self.bytes += sum(len(row.payload) for row in folded.chunks)
        self.windows += len(folded.windows)


def quiet(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """The mean of the fastest third."""
    best = sorted(samples)[: max(1, len(samples) // 3)]
    return sum(cpu for cpu, _ in best) / len(best), sum(wall for _, wall in best) / len(best)


def measure_path(name: str, form: str, agents: int, total: int) -> float:
    """Report rows a CPU-second; returns the CPU seconds a row."""
    path, samples, floors, given = PurePath(form), [], [], segments(form, agents)
    while path.rows < total:
        values = next(given)
        samples.append(timed(lambda values=values: path.run(values)))
        if form == "json":
            floors.append(timed(lambda values=values: naive.add_up(values, {})))
    per_segment = path.rows / len(samples)
    cpu_s, wall_s = quiet(samples)
    figures = {"rows": path.rows, "rows_per_cpu_s": per_segment / cpu_s, "rows_per_wall_s": per_segment / wall_s}
    if floors:
        figures["floor_rows_per_cpu_s"] = per_segment / quiet(floors)[0]
    report(name, **figures, payload_bytes_per_row=path.bytes / path.rows, windows=path.windows)
    return cpu_s / per_segment


def measure_naive(name: str, run: Callable[..., list[bytes]], count: int) -> float:
    """The same messages through the flow of a stock Bytewax user."""
    values = [value for segment in islice(segments("json", 64), count // SEGMENT["json"]) for value in segment]
    told: list[bytes] = []

    def once() -> None:
        told[:] = run(values, APPEND_MS)

    cpu_s, wall_s = min(timed(once) for _ in range(3))
    assert sum(msgspec.json.decode(summary)["rows"] for summary in told) == len(values)
    report(
        name,
        rows=len(values),
        rows_per_cpu_s=len(values) / cpu_s,
        rows_per_wall_s=len(values) / wall_s,
        windows=len(told),
    )
    return cpu_s / len(values)


def measure_chunk() -> None:
    """Random observations, one agent: bytes a row, and the time to write and to read."""
    batch = bench_rows.rows(1, 0, 4_096)
    payload, _ = encode_chunk(batch)
    encode_s = best_s(lambda: encode_chunk(batch), 100)
    small = batch.slice(0, 500)
    encoded, checksum = encode_chunk(small)
    decode_s = best_s(lambda: decode_chunk(encoded, checksum, "bench"), 50, calls=20)
    report(
        "chunk",
        payload_bytes_per_row=len(payload) / len(batch),
        encode_us_per_row=encode_s / len(batch) * 1e6,
        decode_500_us=decode_s * 1e6,
    )


def measure_memory(total: int) -> None:
    """Resident memory after a fifth of the rows and after all of them."""
    path, early_mb = PurePath("arrow"), 0.0
    for values in segments("arrow", 64):
        path.run(values)
        early_mb = early_mb or (memory_mb() if path.rows >= total // 5 else 0.0)
        if path.rows >= total:
            break
    report("memory", rows=path.rows, early_mb=early_mb, late_mb=memory_mb(), growth_mb=memory_mb() - early_mb)


def main() -> None:
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    json_s = measure_path("json", "json", 64, total)
    naive_s = measure_naive("naive", naive.run, min(total, 4 * SEGMENT["json"]))
    stateful_s = measure_naive("naive_stateful", naive.run_stateful, min(total, 10 * SEGMENT["json"]))
    many_s = measure_path("json_10000_agents", "json", 10_000, total // 4)
    measure_path("arrow_256", "arrow", 64, total)
    measure_chunk()
    measure_memory(5 * total)
    report(
        "ratios",
        json_to_naive=naive_s / json_s,
        json_to_stateful=stateful_s / json_s,
        agents_10000_to_64=many_s / json_s,
    )


if __name__ == "__main__":
    main()
