"""How fast ingest is on the configured log, index and cache: decode only, without a store, and the whole way.

The clock runs from the moment when the first rows (`warm_up`) are done to the last commit. In: reading the log,
decoding, rules, chunks, stats, windows, writes until they are acknowledged, the transactions. Out: producing (done
before), joining the group, connecting, and what the servers do after their last acknowledgement (compaction).
"""

import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Self, cast

import msgspec

from headrace.pipelines.bench import rows as bench_rows
from headrace.pipelines.bench.process import UsageMeter, memory_mb, server_pids
from headrace.pipelines.bench.scratch import GROUPS, scratch
from headrace.pipelines.ingest.items import Passed, Piece, Polled, Tick
from headrace.pipelines.ingest.job import Ingest, dataflow
from headrace.pipelines.ingest.meters import IngestCounts
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.settings import Settings
from headrace.pipelines.tasks import add_task
from headrace.pipelines.wiring import open_services
from headrace.schemas.ports import Cache, EndOfLog, Index, Log

logger = logging.getLogger(__name__)

DEPTHS: Final = tuple(GROUPS)
_STAGES: Final = {"split": "split", "check": "decode, rules", "fold": "chunk, window"}


@dataclass(frozen=True, slots=True)
class Load:
    """What ingest is given. rows: those that are timed. warm_up: those before them. form: json or arrow.

    window_ms: of event time; an agent emits a row each 100 ms (of more than 64 agents, each 2 s). A store costs by the
    chunk that it writes, and a chunk is what a group emits within a window.
    """

    form: str = "json"
    rows: int = 1_000_000
    warm_up: int = 200_000
    agents: int = 64
    partitions: int = 4
    window_ms: int = bench_rows.SPEC.window_ms
    seconds: float | None = None


@dataclass(slots=True)
class Stages:
    """Wall and CPU seconds of the main thread, by stage."""

    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add what the block takes to a stage."""
        wall_s, cpu_s = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.thread_time() - cpu_s
            self.wall_s[name] = self.wall_s.get(name, 0.0) + time.perf_counter() - wall_s

    def timing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call such that it is timed."""

        def timed(*arguments: Any) -> Any:  # noqa: ANN401
            with self.timed(name):
                return call(*arguments)

        return timed

    def clear(self) -> None:
        """Forget what was measured."""
        self.wall_s.clear()
        self.cpu_s.clear()


class _Timed:
    """An object some of whose verbs are timed, each as the stage that it stands for."""

    def __init__(self, inner: object, stages: Stages, **names: str) -> None:
        self._inner, self._stages, self._names = inner, stages, names

    def __getattr__(self, verb: str) -> Any:  # noqa: ANN401 any port's
        found = getattr(self._inner, verb)
        if verb == "decisions":
            return _Timed(found, self._stages, put="index: decisions")
        return self._stages.timing(self._names[verb], found) if verb in self._names else found


class _TimedLog(_Timed):
    """A log that a depth reads as a group of its own, from the first message on; its subscription is timed too."""

    def __init__(self, log: Log, stages: Stages, group: str) -> None:
        super().__init__(log, stages)
        self._log, self._group = log, group

    def subscribe(self, _group: str, topic: str) -> Any:  # noqa: ANN401
        """Join the depth's group."""
        return _Timed(self._log.subscribe(self._group, topic), self._stages, poll="consume", commit="commit")


class _Nothing:
    """The ports Index (its decisions too) and Cache that keep nothing and find nothing."""

    def __getattr__(self, _verb: str) -> Self:
        return self

    def __call__(self, *_given: object, **_how: object) -> tuple[()]:
        return ()


def measure(settings: Settings, load: Load, depths: Sequence[str] = DEPTHS) -> Iterator[dict[str, Any]]:
    """Produce the load into a scratch place, then yield a record of each depth."""
    with scratch(settings) as place:
        prepare(place, load)
        for depth in depths:
            found = run_depth(place, load, depth)
            if not found["rows"]:
                logger.warning("%s: every row was done within the warm-up: give more --rows, or less --warm-up", depth)
            yield found


def prepare(settings: Settings, load: Load) -> int:
    """Make the topics, the layout and the task, and send the rows; returns how many."""
    with open_services(settings, create=True) as services:
        services.initialise(partitions=load.partitions, segment=bench_rows.SEGMENT[load.form])
        add_task(
            services.log,
            msgspec.structs.replace(bench_rows.SPEC, window_ms=load.window_ms),
        )
        began_s = time.perf_counter()
        sent = bench_rows.produce(services.log, load.form, load.agents, load.warm_up + load.rows)
        logger.info("sent %d rows as %s in %.1f s", sent, load.form, time.perf_counter() - began_s)
    return sent


def run_depth(settings: Settings, load: Load, depth: str) -> dict[str, Any]:
    """Run ingest as it is, without a store, or no further than the rules; return what was measured."""
    stages, meter = Stages(), UsageMeter(server_pids(settings))
    with open_services(settings) as services:
        nothing: Any = _Nothing()
        index, cache = (services.index, services.cache) if depth == "whole" else (nothing, nothing)
        job = Ingest(
            cast(Log, _TimedLog(services.log, stages, GROUPS[depth])),
            cast(Index, _Timed(index, stages, put="index: put", flush="index: wait")),
            cast(Cache, _Timed(cache, stages, put="cache")),
            services.layout,
            until_caught_up=True,
        )
        steps = [(name, stages.timing(_STAGES[name], step)) for name, step in job.steps()]
        if depth == "decode":
            steps[2] = ("count", partial(_count, job.counts))
        job.steps = lambda: steps  # type: ignore[method-assign]
        with closing(job):
            timed = _run(job, load, stages, meter)
    more: dict[str, Any] = {}
    if depth != "decode":
        per_chunk = round(job.counts.transitions / max(1, job.counts.chunks), 1)
        more = {"chunks": job.counts.chunks, "windows": job.counts.windows, "rows_per_chunk": per_chunk}
    return _describe(load, depth, timed, meter, stages) | more


def _count(counts: IngestCounts, item: Piece | EndOfLog | Passed) -> list[Tick]:
    """Take rows in and keep nothing."""
    if isinstance(item, Piece):
        counts.transitions += sum(map(len, item.checked.batches))
    return []


def _run(job: Ingest, load: Load, stages: Stages, meter: UsageMeter) -> int:
    """Run the flow; the clock starts when the warm-up is done. Returns how many rows were timed."""
    warmed, poll = 0, job.poll
    timer = threading.Timer(load.seconds or 0.0, lambda: setattr(job.stop, "requested", True))

    def polled() -> list[Polled]:
        nonlocal warmed
        if not warmed and job.counts.transitions >= load.warm_up and job.reading.member.offsets:
            warmed = job.counts.transitions or -1
            stages.clear()
            meter.start()
            if load.seconds:
                timer.start()
        return poll()

    job.poll = polled
    gc.freeze()  # as `headrace run ingest` does
    try:
        run(dataflow(job), job.stop)
    finally:
        gc.unfreeze()
        timer.cancel()
    meter.stop()
    return job.counts.transitions - max(0, warmed)


def _describe(load: Load, depth: str, timed: int, meter: UsageMeter, stages: Stages) -> dict[str, Any]:
    millions = max(1, timed) / 1e6
    return {
        "bench": "ingest",
        "depth": depth,
        "format": load.form,
        "agents": load.agents,
        "partitions": load.partitions,
        "window_ms": load.window_ms,
        "rows": timed,
        "wall_s": round(meter.wall_s, 3),
        "rows_per_s": round(timed / meter.wall_s),
        "cpu_s_per_million": round(meter.own_cpu_s / millions, 3),
        "rows_per_cpu_s": round(timed / meter.own_cpu_s),
        "server_cpu_s_per_million": {name: round(s / millions, 3) for name, s in meter.server_cpu_s.items()},
        "stage_cpu_us_per_row": {name: round(s / millions, 3) for name, s in stages.cpu_s.items()},
        "stage_wall_us_per_row": {name: round(s / millions, 3) for name, s in stages.wall_s.items()},
        "other_threads_cpu_us_per_row": round((meter.own_cpu_s - sum(stages.cpu_s.values())) / millions, 3),
        "memory_mb": round(memory_mb()),
        "load": round(os.getloadavg()[0], 1),
    }
