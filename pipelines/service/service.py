"""A job as others see it from outside: alive, ready, and how far it has come."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

from headrace.pipelines.runtime.liveness import Liveness
from headrace.pipelines.service.ends import Ends, TopicPartition
from headrace.pipelines.service.metrics import Metric
from headrace.schemas.ports import Log
from headrace.schemas.records import JobName

STANDBY_S: Final = 30.0
"""A member of a group that has been given nothing for so long stands by for the others, and is ready."""

Positions = Callable[[], Mapping[TopicPartition, int]]


@dataclass(frozen=True, slots=True)
class Service:
    """What is served of a job.

    silent_s: how long its main loop may be busy without a sign of life. positions: how far it has come in each
    partition that it has; None for a job that has none.
    """

    name: JobName
    job: object
    metrics: Iterable[Metric[Any]]
    log: Log
    liveness: Liveness
    silent_s: float
    positions: Positions | None = None
    ends: Ends = field(init=False)

    def __post_init__(self) -> None:
        """Make what asks the log for the ends."""
        object.__setattr__(self, "ends", Ends(self.log, lambda: self.positions() if self.positions else ()))

    def sick(self) -> str:
        """Return why the job should be started anew; "" while its main loop lives. Waiting is living."""
        silent_s = time.monotonic() - self.liveness.seen_s
        if silent_s <= self.silent_s:
            return ""
        return f"{self.name}: no sign of life from the main loop for {silent_s:.0f} s (limit {self.silent_s:.0f} s)"

    def unready(self) -> str:
        """Return what the job waits for; "" when it does its work."""
        liveness = self.liveness
        now_s = time.monotonic()
        if waits_for := liveness.waits_for:
            return f"{self.name}: waiting for {now_s - liveness.down_s:.1f} s: {waits_for}"
        if self.positions and not self.positions() and now_s - liveness.began_s < STANDBY_S:
            return f"{self.name}: waiting for partitions to be assigned"
        return ""

    def lags(self) -> dict[tuple[str, ...], float]:
        """Return how far each partition's end is ahead, by topic and partition, where the log tells."""
        if self.positions is None:
            return {}
        positions, ends = self.positions(), self.ends.now()
        return {
            (topic, str(partition)): float(max(0, ends[topic, partition] - position))
            for (topic, partition), position in positions.items()
            if (topic, partition) in ends
        }


EVERY_JOB: Final[tuple[Metric[Service], ...]] = (
    Metric(
        "headrace_info",
        "gauge",
        "1, with the job's name and headrace's version.",
        lambda s: {(s.name, metadata.version("headrace")): 1.0},
        ("name", "version"),
    ),
    Metric("headrace_ready", "gauge", "1 where /readyz says 200, else 0.", lambda s: float(not s.unready())),
    Metric(
        "headrace_silence_seconds",
        "gauge",
        "Time since the main loop's last sign of life.",
        lambda s: max(0.0, time.monotonic() - s.liveness.seen_s),
    ),
    Metric(
        "headrace_dependency_retries_total",
        "counter",
        "Calls to a log, index or store that was down, each tried again.",
        lambda s: s.liveness.retries,
    ),
)
LAG: Final[Metric[Service]] = Metric(
    "headrace_lag_messages",
    "gauge",
    "Messages between the job's place in a partition that it has and the partition's end.",
    lambda s: s.lags(),
    ("topic", "partition"),
)
"""Of the jobs that follow a topic."""
