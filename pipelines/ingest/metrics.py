"""What is measured of `ingest`. docs/operations.md has the same table for people."""

import time
from collections.abc import Mapping
from typing import Final

from headrace.pipelines.ingest.job import Ingest
from headrace.pipelines.service.metrics import Labels, Metric, by_name, cache_errors


def _commit_ages(job: Ingest) -> Mapping[Labels, float]:
    now_s = time.monotonic()
    return {(str(partition),): now_s - at_s for partition, at_s in job.meters.moved_s.copy().items()}


METRICS: Final[tuple[Metric[Ingest], ...]] = (
    Metric("headrace_ingest_messages_total", "counter", "Messages read.", lambda job: job.counts.messages),
    Metric(
        "headrace_ingest_transitions_total",
        "counter",
        "Transitions accepted.",
        lambda job: by_name(job.meters.transitions),
        ("task",),
    ),
    Metric(
        "headrace_ingest_late_transitions_total",
        "counter",
        "Transitions that came after their window had closed; it is emitted again.",
        lambda job: job.counts.late,
    ),
    Metric(
        "headrace_ingest_rejected_messages_total",
        "counter",
        "Messages that went to transitions.rejected, by the rule that they broke.",
        lambda job: by_name(job.counts.rejected),
        ("rule",),
    ),
    Metric(
        "headrace_ingest_duplicate_transitions_total",
        "counter",
        "Transitions dropped as their chunk holds the same agent, episode and step.",
        lambda job: job.meters.duplicates,
    ),
    Metric(
        "headrace_ingest_chunks_written_total",
        "counter",
        "Chunk rows written; a chunk that has grown is written again.",
        lambda job: job.counts.chunks,
    ),
    Metric(
        "headrace_ingest_windows_written_total",
        "counter",
        "Window summaries written and emitted, those that late rows bring about included.",
        lambda job: job.counts.windows,
    ),
    Metric(
        "headrace_ingest_batch_seconds",
        "histogram",
        "From the poll of a fold's first message to the end of the commit that makes it durable.",
        lambda job: job.meters.batch_s,
    ),
    Metric(
        "headrace_ingest_write_seconds",
        "histogram",
        "The part of that from the fold on: index, outputs and commit.",
        lambda job: job.meters.write_s,
    ),
    Metric("headrace_ingest_partitions", "gauge", "Partitions that this process has.", lambda job: len(job.positions)),
    Metric(
        "headrace_ingest_commit_age_seconds",
        "gauge",
        "Time since the partition was assigned or its commit moved last; grows where nothing comes in.",
        _commit_ages,
        ("partition",),
    ),
    Metric(
        "headrace_ingest_index_waiting_bytes",
        "gauge",
        "Written, but not yet acknowledged by the index.",
        lambda job: job.index.counters().get(("waiting_bytes",), 0.0),
    ),
    Metric(
        "headrace_ingest_index_retries_total",
        "counter",
        "Single writes that the index's driver sent again.",
        lambda job: job.index.counters().get(("retries",), 0.0),
    ),
    cache_errors(lambda job: job.chunks),
)
