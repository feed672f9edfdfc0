"""A metric: its name, what it means, and how it is read off a job when somebody asks. The job itself pays nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from headrace.pipelines.service.histogram import Histogram
from headrace.sinks.chunks import CachedChunks

Job = TypeVar("Job")
Labels = tuple[str, ...]
Kind = Literal["counter", "gauge", "histogram"]
Value = float | Histogram
Reading = Value | Mapping[Labels, Value]

_FAMILIES: Final[dict[Kind, Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


@dataclass(frozen=True, slots=True)
class Metric(Generic[Job]):
    """One metric of a job.

    name: as Prometheus has it, units last, a counter's with _total. read: is called by a scrape's thread, so it looks
    only at what may be looked at from another thread, and copies a dictionary before it goes through it. It returns a
    value, or values by the values of `labels`; a metric that can't be told now is left out by an empty mapping.
    """

    name: str
    kind: Kind
    about: str
    read: Callable[[Job], Reading]
    labels: Labels = ()

    def family(self, job: Job) -> Family:
        """Read the metric."""
        family: Family = _FAMILIES[self.kind](self.name, self.about, labels=self.labels)
        reading = self.read(job)
        values: Mapping[Labels, Value] = reading if isinstance(reading, Mapping) else {(): reading}
        for labels, value in values.items():
            if isinstance(value, Histogram):
                assert isinstance(family, HistogramMetricFamily)
                family.add_metric(labels, value.buckets(), value.total)
            else:
                family.add_metric(labels, value)  # type: ignore[attr-defined] # of counters and gauges
        return family


class _Reader(Collector):
    def __init__(self, metrics: Iterable[Metric[Any]], job: object) -> None:
        self._metrics = tuple(metrics)
        self._job = job

    def collect(self) -> Iterator[Family]:
        """Read every metric."""
        return (metric.family(self._job) for metric in self._metrics)


def registry(*sources: tuple[Iterable[Metric[Any]], object]) -> CollectorRegistry:
    """Return a registry of the metrics of each source, and of the process itself (CPU, memory, files)."""
    found = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=found)
    for metrics, job in sources:
        found.register(_Reader(metrics, job))
    return found


def by_name(counts: Mapping[str, int]) -> Mapping[Labels, float]:
    """Return counts by their only label. The copy is made in one step: the job may be adding to it."""
    return {(name,): count for name, count in dict(counts).items()}


def cache_errors(of: Callable[[Job], CachedChunks]) -> Metric[Job]:
    """Return the metric of a job's cache that fails."""
    return Metric(
        "headrace_cache_errors_total",
        "counter",
        "Failures of the cache's server; each is a miss.",
        lambda job: {(level,): n for (level, what), n in of(job).cache.counters().items() if what == "error"},
        ("level",),
    )


def cache_requests(of: Callable[[Job], CachedChunks]) -> Metric[Job]:
    """Return the metric of a job's cache that is asked."""
    return Metric(
        "headrace_cache_requests_total",
        "counter",
        "Chunks asked of the cache, by level and result (hit, miss).",
        lambda job: {name: n for name, n in of(job).cache.counters().items() if name[1] != "error"},
        ("level", "result"),
    )
