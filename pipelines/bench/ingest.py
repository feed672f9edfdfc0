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
from headrace.pipelines.bench.process import Meter, memory_mb, server_pids
from headrace.pipelines.bench.scratch import DECODE_GROUP, scratch
from headrace.pipelines.ingest.job import Ingest, Polled, dataflow
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.settings import Settings
from headrace.pipelines.tasks import TaskTable, add_task
from headrace.pipelines.topics import TRANSITIONS
from headrace.pipelines.wiring import Services, open_services
from headrace.schemas.codec import check
from headrace.schemas.ports import Assigned, Cache, Index, Log, MessageBatch

logger = logging.getLogger(__name__)

DEPTHS: Final = ("decode", "no store", "whole")


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
        return partial(self._call, found, self._names[verb]) if verb in self._names else found

    def _call(self, call: Callable[..., Any], name: str, *arguments: Any) -> Any:  # noqa: ANN401
        with self._stages.timed(name):
            return call(*arguments)

    def subscribe(self, group: str, topic: str) -> Any:  # noqa: ANN401
        """Join the group, where this is a log; what its subscription does is timed."""
        return _Timed(cast(Log, self._inner).subscribe(group, topic), self._stages, poll="consume", commit="commit")


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
            timed, meter, stages, more = _MEASURES[depth](place, load)
            if not timed:
                logger.warning("%s: every row was done within the warm-up: give more --rows, or less --warm-up", depth)
            yield _describe(load, depth, timed, meter, stages, more)


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


Measured = tuple[int, Meter, Stages, dict[str, Any]]


def decode(settings: Settings, load: Load) -> Measured:
    """Read the log to its end, decode and check: nothing else."""
    stages, meter = Stages(), Meter(server_pids(settings))
    with open_services(settings) as services:
        found = services.layout
        tasks = TaskTable(services.log, found)
        tasks.refresh()
        with closing(services.log.subscribe(DECODE_GROUP, TRANSITIONS)) as subscription:
            left: dict[int, int] = {}
            done, warmed = 0, -1
            while warmed < 0 or any(left.values()):
                if warmed < 0 and left and done >= load.warm_up:
                    warmed = done
                    stages.clear()
                    meter.start()
                with stages.timed("consume"):
                    events = subscription.poll(4_096, 0.1)
                for event in events:
                    if isinstance(event, Assigned):
                        left[event.partition] = event.end - event.begin
                    elif isinstance(event, MessageBatch):
                        with stages.timed("decode, rules"):
                            done += sum(map(len, check(event, tasks, found).batches))
                        left[event.partition] -= len(event)
            meter.stop()
    return done - warmed, meter, stages, {}


def _ingest(settings: Settings, load: Load, opened: Callable[[Services], tuple[Index, Cache]]) -> Measured:
    stages, meter = Stages(), Meter(server_pids(settings))
    with open_services(settings) as services:
        index, cache = opened(services)
        job = Ingest(
            cast(Log, _Timed(services.log, stages)),
            cast(Index, _Timed(index, stages, put="index: put", flush="index: wait")),
            cast(Cache, _Timed(cache, stages, put="cache")),
            services.layout,
            until_caught_up=True,
            from_start=True,
        )
        with closing(job):
            timed = _run(job, load, stages, meter)
    counts = job.counts
    per_chunk = round(counts.transitions / max(1, counts.chunks), 1)
    return timed, meter, stages, {"chunks": counts.chunks, "windows": counts.windows, "rows_per_chunk": per_chunk}


def _run(job: Ingest, load: Load, stages: Stages, meter: Meter) -> int:
    """Run the flow; the clock starts when the warm-up is done. Returns how many rows were timed."""
    warmed, poll = 0, job.poll
    timer = threading.Timer(load.seconds or 0.0, lambda: setattr(job.stop, "requested", True))

    def polled() -> list[Polled]:
        nonlocal warmed
        if not warmed and job.counts.transitions >= load.warm_up and job.positions:
            warmed = job.counts.transitions or -1
            stages.clear()
            meter.start()
            if load.seconds:
                timer.start()
        return poll()

    timed = _Timed(job, stages, check="decode, rules", fold="chunk, window")
    job.poll, job.check, job.fold = polled, timed.check, timed.fold  # type: ignore[method-assign]
    gc.freeze()  # as `headrace run ingest` does
    try:
        run(dataflow(job), job.stop)
    finally:
        gc.unfreeze()
        timer.cancel()
    meter.stop()
    return job.counts.transitions - max(0, warmed)


def without_store(settings: Settings, load: Load) -> Measured:
    """Ingest, but no index and no cache; windows are told, and commits made."""
    nothing: Any = _Nothing()
    return _ingest(settings, load, lambda _: (nothing, nothing))


def whole(settings: Settings, load: Load) -> Measured:
    """Ingest as it is."""
    return _ingest(settings, load, lambda services: (services.index, services.cache))


_MEASURES: Final[dict[str, Callable[[Settings, Load], Measured]]] = {
    "decode": decode,
    "no store": without_store,
    "whole": whole,
}


def _describe(load: Load, depth: str, timed: int, meter: Meter, stages: Stages, more: dict[str, Any]) -> dict[str, Any]:
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
        **more,
    }
