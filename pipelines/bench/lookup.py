"""How fast chunks are found by reference, through the configured cache and index: throughput, hit rate, latency.

References are asked for in batches, their popularity by Zipf's law. A look-up of `rows` ends with columns: payload
fetched, decompressed, checked against its reference, decoded (`CachedChunks.transitions`); one of `payload` ends with
the bytes. Out of the measurement: writing the chunks, filling the caches, connecting, drawing what is asked for.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle, islice
from multiprocessing import get_context
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.pipelines.bench import rows as bench_rows
from headrace.pipelines.bench.process import UsageMeter, server_pids
from headrace.pipelines.bench.scratch import scratch
from headrace.pipelines.ingest.segment import encode_parts, group_rows
from headrace.pipelines.settings import Settings, read_settings
from headrace.pipelines.wiring import ADAPTERS, Services, open_services
from headrace.schemas.ports import Cache, Index
from headrace.schemas.records import ChunkReference
from headrace.sinks.chunks import CachedChunks, TwoLevels
from headrace.sinks.memory import ENTRY_BYTES, MemoryCache

logger = logging.getLogger(__name__)

CASES: Final = (
    ("configured", "payload"),
    ("configured", "rows"),
    ("far", "payload"),
    ("far", "rows"),
    ("share", "payload"),
    ("share", "rows"),
    ("none", "payload"),
)
"""(cache, what a look-up ends with). configured: HEADRACE_CACHE, all chunks put into it before. far: the same
without the level in this process, where it has two. share: one level in this
process that holds `cache_share` of the bytes. none: every look-up goes to the index."""
CACHES: Final = tuple(dict.fromkeys(cache for cache, _ in CASES))
_PEAK_SHARE: Final = 0.5
_WARM_PASSES: Final = 2
_DRAWN: Final = 1 << 20
"""References that are drawn before the clock starts; a longer measurement asks for them again."""
_HELD_BATCH: Final = 256
_LATE_S: Final = 0.0002
"""A sleep may end so much late."""


@dataclass(frozen=True, slots=True)
class Lookups:
    """What is asked. chunks: at least so many. zipf: the exponent. cache_share: of the chunks' bytes.

    batch: references a call. concurrency: processes that ask at the same time. seconds: of each measurement.
    """

    chunks: int = 16_000
    zipf: float = 0.99
    cache_share: float = 0.1
    batch: int = 16
    concurrency: int = 1
    seconds: float = 3.0


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written. references: the most popular first. bytes: of all payloads."""

    references: list[ChunkReference]
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Case:
    """What a process is asked, of what, and where."""

    urls: dict[str, str | None]
    stored: Stored
    asked: Lookups
    cache: str
    ends_with: str


@dataclass(slots=True)
class Answer:
    """What one process found out at its peak. held: chunks in its cache in the end.

    latencies_s: of each call at half of the peak, from when it was due.
    """

    lookups: int
    wall_s: float
    cpu_s: float
    server_cpu_s: dict[str, float]
    latencies_s: list[float]
    hits: int = 0
    held: int = 0


class _Payloads:
    """Looks bytes up as `CachedChunks` does rows. hits: references that the cache had."""

    def __init__(self, index: Index, cache: Cache) -> None:
        self.index, self.cache, self.hits = index, cache, 0

    def look(self, references: Sequence[ChunkReference]) -> None:
        """Ask the cache, and the index for what it lacks; the cache has it from now on."""
        found = self.cache.get(references)
        missing = [r for r, payload in zip(references, found, strict=True) if payload is None]
        self.hits += len(found) - len(missing)
        rows = self.index.chunks(missing) if missing else []
        self.cache.put([(r, row.payload) for r, row in zip(missing, rows, strict=True) if row])


def measure(settings: Settings, asked: Lookups, caches: Sequence[str] = CACHES) -> Iterator[dict[str, Any]]:
    """Write chunks into a scratch place, then yield a record of each case of these caches."""
    with scratch(settings) as place:
        with open_services(place, create=True) as services:
            stored = _write(services, asked.chunks)
        urls = {name: getattr(place, name).text for name in ADAPTERS}
        for cache, ends_with in CASES:
            if cache in caches:
                logger.info("cache %s, to the %s: twice %.3g s", cache, ends_with, asked.seconds)
                yield _case(Case(urls, stored, asked, cache, ends_with))


def _write(services: Services, wanted: int) -> Stored:
    """Write at least `wanted` chunks as ingest does, and remember them in the cache."""
    chunks = CachedChunks(services.index, services.cache)
    began_s, stored_bytes, stored_rows, segment = time.perf_counter(), 0, 0, 0
    references: list[ChunkReference] = []
    while len(references) < wanted:
        batch = bench_rows.rows(64, segment * bench_rows.BLOCK_ROWS, bench_rows.BLOCK_ROWS)
        parts = encode_parts(group_rows(batch, bench_rows.SPEC, 0, segment), bench_rows.SPEC, {})
        rows = [part.row for part in parts]
        services.index.put(rows, [])
        chunks.remember(rows)
        references += [row.reference for row in rows]
        stored_bytes += sum(len(row.payload) for row in rows)
        stored_rows += len(batch)
        segment += 1
    services.index.flush()
    logger.info("wrote %d chunks in %.1f s", len(references), time.perf_counter() - began_s)
    # Popularity has nothing to do with age.
    popular = np.random.default_rng(seeds.LOOKUPS.first).permutation(len(references))
    return Stored([references[i] for i in popular], stored_rows, stored_bytes)


def _case(case: Case) -> dict[str, Any]:
    """Ask, and tell what was found out."""
    stored, asked, count = case.stored, case.asked, len(case.stored.references)
    peak = _all(case)
    lookups = sum(answer.lookups for answer in peak)
    rate = sum(answer.lookups / answer.wall_s for answer in peak)
    latencies_ms = np.array([s for answer in peak for s in answer.latencies_s]) * 1e3
    p50_ms, p95_ms = np.percentile(latencies_ms, (50, 95)).tolist()
    hit_rate = sum(answer.hits for answer in peak) / lookups
    held = max(answer.held for answer in peak)
    ceiling = float(_popularity(count, asked.zipf)[:held].sum())
    return {
        "bench": "lookup",
        "cache": case.cache,
        "ends_with": case.ends_with,
        "chunks": count,
        "chunk_rows": round(stored.rows / count),
        "chunk_bytes": round(stored.bytes / count),
        "zipf": asked.zipf,
        "batch": asked.batch,
        "concurrency": len(peak),
        "lookups": lookups,
        "lookups_per_s": round(rate),
        "cpu_us_per_lookup": round(sum(answer.cpu_s for answer in peak) / lookups * 1e6, 1),
        "server_cpu_us_per_lookup": {name: round(s / lookups * 1e6, 1) for name, s in peak[0].server_cpu_s.items()},
        "hit_rate": round(hit_rate, 3),
        "entries_held": held,
        "perfect_lfu_hit_rate": round(ceiling, 3),
        "p50_ms_at_half_peak": round(p50_ms, 3),
        "p95_ms_at_half_peak": round(p95_ms, 3),
        "load": round(os.getloadavg()[0], 1),
    }


def _popularity(count: int, zipf: float) -> NDArray[np.float64]:
    weights = np.arange(1, count + 1, dtype=np.float64) ** -zipf
    share: NDArray[np.float64] = weights / weights.sum()
    return share


def _all(case: Case) -> list[Answer]:
    """Ask in as many processes as wanted, at the same time."""
    given = seeds.LOOKUPS.each()[1 : 1 + case.asked.concurrency]
    if len(given) == 1:
        return [ask(case, given[0])]
    with ProcessPoolExecutor(len(given), mp_context=get_context("spawn")) as pool:
        return [future.result() for future in [pool.submit(ask, case, seed) for seed in given]]


def ask(case: Case, seed: int) -> Answer:
    """Look up for a while as fast as it goes, and for as long at half of that rate."""
    settings, asked, references = read_settings(case.urls), case.asked, case.stored.references
    with open_services(settings) as services:
        used = _cache(services, case)
        payloads, rows = _Payloads(services.index, used), CachedChunks(services.index, used)
        look = payloads.look if case.ends_with == "payload" else rows.transitions
        calls = _calls(references, asked, seed)
        if case.cache != "none":
            _warm(payloads.look, references, calls, asked.batch)
        drawn = cycle(list(islice(calls, max(1, _DRAWN // asked.batch))))
        payloads.hits = 0
        peak = _timed(look, drawn, asked, None, UsageMeter(server_pids(settings)))
        hits = payloads.hits + rows.hits
        paced = _timed(look, drawn, asked, peak.lookups / peak.wall_s * _PEAK_SHARE, UsageMeter({}))
        return replace(peak, hits=hits, held=_held(used, references), latencies_s=paced.latencies_s)


def _warm(
    look: Callable[[Sequence[ChunkReference]], object],
    references: Sequence[ChunkReference],
    calls: Iterator[list[ChunkReference]],
    batch: int,
) -> None:
    """Ask for everything once, the most popular last, then as it will be asked for."""
    for first in range(len(references), 0, -batch):
        look(references[max(0, first - batch) : first])
    for _ in range(_WARM_PASSES * len(references) // batch):
        look(next(calls))


def _cache(services: Services, case: Case) -> Cache:
    if case.cache == "configured":
        return services.cache
    if case.cache == "far":
        return services.cache.far if isinstance(services.cache, TwoLevels) else services.cache
    share = case.asked.cache_share if case.cache == "share" else 0.0
    return MemoryCache(round((case.stored.bytes + ENTRY_BYTES * len(case.stored.references)) * share))


def _held(cache: Cache, references: Sequence[ChunkReference]) -> int:
    """Return how many chunks the cache holds."""
    batches = (references[first : first + _HELD_BATCH] for first in range(0, len(references), _HELD_BATCH))
    return sum(payload is not None for batch in batches for payload in cache.get(batch))


def _calls(references: Sequence[ChunkReference], asked: Lookups, seed: int) -> Iterator[list[ChunkReference]]:
    """Draw references by their popularity, a batch at a time, for ever."""
    rng = np.random.default_rng(seed)
    edges = np.cumsum(_popularity(len(references), asked.zipf))
    last = len(references) - 1
    while True:
        picks = np.minimum(np.searchsorted(edges, rng.random((1_000, asked.batch))), last).tolist()
        yield from ([references[i] for i in some] for some in picks)


def _timed(
    look: Callable[[Sequence[ChunkReference]], object],
    calls: Iterator[list[ChunkReference]],
    asked: Lookups,
    rate_s: float | None,
    meter: UsageMeter,
) -> Answer:
    """Call for so long. At a rate, a call that is late counts from when it was due."""
    pause_s = asked.batch / rate_s if rate_s else 0.0
    latencies_s: list[float] = []
    done = 0
    meter.start()
    began_s = due_s = time.perf_counter()
    while due_s - began_s < asked.seconds:
        call = next(calls)
        if pause_s:
            _wait(due_s)
        look(call)
        now_s = time.perf_counter()
        latencies_s.append(now_s - due_s)
        done += len(call)
        due_s = due_s + pause_s if pause_s else now_s
    meter.stop()
    return Answer(done, meter.wall_s, meter.own_cpu_s, meter.server_cpu_s, latencies_s)


def _wait(due_s: float) -> None:
    """Wait until then, the end of it awake: a sleep ends tens of µs late, which is long beside a call to memory."""
    left_s = due_s - time.perf_counter()
    if left_s > _LATE_S:
        time.sleep(left_s - _LATE_S)
    while time.perf_counter() < due_s:
        pass
