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
from typing import Any, Final, Self, cast

import msgspec
from typing_extensions import override

from headrace.pipelines import bench_rows
from headrace.pipelines.bench_process import Meter, memory_mb, server_pids
from headrace.pipelines.bench_scratch import DECODE_GROUP, scratch
from headrace.pipelines.core.tasks import TaskTable, add_task
from headrace.pipelines.ingest import Fold, Ingest, Piece, Polled, Tick, dataflow
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.settings import Settings
from headrace.pipelines.topics import TRANSITIONS
from headrace.pipelines.wiring import Services, initialise, layout, open_services
from headrace.schemas.codec import check
from headrace.schemas.ports import Assigned, Cache, EndOfLog, Index, Log, MessageBatch

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
    """A port some of whose verbs are timed, each as the stage that it stands for."""

    def __init__(self, port: object, stages: Stages, names: dict[str, str]) -> None:
        self._port, self._stages, self._names = port, stages, names

    def __getattr__(self, verb: str) -> Any:  # noqa: ANN401 any port's
        call = getattr(self._port, verb)
        if verb == "decisions":
            return _Timed(call, self._stages, {"put": "index: decisions"})
        if verb not in self._names:
            return call

        def timed(*arguments: Any) -> Any:  # noqa: ANN401
            with self._stages.timed(self._names[verb]):
                return call(*arguments)

        return timed


class _NoStore:
    """The ports Index (its decisions too) and Cache that keep nothing."""

    @property
    def decisions(self) -> Self:
        """Where sampled decisions go."""
        return self

    def put(self, *_rows: object) -> None:
        """Take rows or entries."""

    def flush(self) -> None:
        """Wait for nothing."""

    def scan(self, *_range: object, **_how: object) -> Iterator[Any]:
        """Find nothing."""
        return iter(())


class _Log:
    """The port Log; its subscriptions are timed."""

    def __init__(self, log: Log, stages: Stages) -> None:
        self._log, self._stages = log, stages

    def subscribe(self, group: str, topic: str) -> Any:  # noqa: ANN401
        """Join the group."""
        verbs = {"poll": "consume", "commit": "commit"}
        return _Timed(self._log.subscribe(group, topic), self._stages, verbs)

    def __getattr__(self, verb: str) -> Any:  # noqa: ANN401
        return getattr(self._log, verb)


class _TimedIngest(Ingest):
    """Ingest, its stages timed; the clock starts when `warm_up` rows are done."""

    def __init__(
        self, services: Services, index: Index, cache: Cache, meter: Meter, stages: Stages, load: Load
    ) -> None:
        log = cast(Log, _Log(services.log, stages))
        timed_index = cast(Index, _Timed(index, stages, {"put": "index: put", "flush": "index: wait"}))
        timed_cache = cast(Cache, _Timed(cache, stages, {"put": "cache"}))
        super().__init__(log, timed_index, timed_cache, layout(services), until_caught_up=True, from_start=True)
        self.meter, self.stages, self.warm_up = meter, stages, load.warm_up
        self.warmed = 0
        self._timer_thread = threading.Timer(load.seconds, self._time_is_up) if load.seconds else None

    def _time_is_up(self) -> None:
        self.stop.requested = True

    @override
    def poll(self) -> list[Polled]:
        if not self.warmed and self.counts.transitions >= self.warm_up and self._partitions:
            self.warmed = self.counts.transitions or -1
            self.stages.clear()
            self.meter.start()
            if self._timer_thread:
                self._timer_thread.start()
        return super().poll()

    @override
    def check(self, event: Polled) -> list[Piece | EndOfLog | Tick]:
        with self.stages.timed("decode, rules"):
            return super().check(event)

    @override
    def fold(self, item: Piece | EndOfLog | Tick) -> list[Fold | Tick]:
        with self.stages.timed("chunk, window"):
            return super().fold(item)

    def finish(self) -> int:
        """Stop the clock; returns how many rows were timed."""
        self.meter.stop()
        if self._timer_thread:
            self._timer_thread.cancel()
        return self.counts.transitions - max(0, self.warmed)


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
        found = initialise(services, partitions=load.partitions, segment=bench_rows.SEGMENT[load.form])
        add_task(
            services.log,
            TaskTable(services.log, found),
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
        found = layout(services)
        tasks = TaskTable(services.log, found)
        tasks.refresh()
        subscription = services.log.subscribe(DECODE_GROUP, TRANSITIONS)
        with closing(subscription):
            left: dict[int, int] = {}
            done = warmed = 0
            began = False
            while not began or any(left.values()):
                if not began and left and done >= load.warm_up:
                    began, warmed = True, done
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
        job = _TimedIngest(services, *opened(services), meter, stages, load)
        with closing(job):
            gc.freeze()  # as `headrace run ingest` does
            try:
                run(dataflow(job), job.stop)
            finally:
                gc.unfreeze()
            timed = job.finish()
    counts = job.counts
    per_chunk = round(counts.transitions / max(1, counts.chunks), 1)
    return timed, meter, stages, {"chunks": counts.chunks, "windows": counts.windows, "rows_per_chunk": per_chunk}


def without_store(settings: Settings, load: Load) -> Measured:
    """Ingest, but no index and no cache; windows are told, and commits made."""
    nothing: Any = _NoStore()
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
