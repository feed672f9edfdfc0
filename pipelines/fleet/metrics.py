"""What is measured of `fleet`. docs/operations.md has the same table for people."""

import math
from typing import Final

from headrace.pipelines.fleet.job import Fleet
from headrace.pipelines.service.metrics import Metric

METRICS: Final[tuple[Metric[Fleet], ...]] = (
    Metric("headrace_fleet_transitions_total", "counter", "Transitions that agents have made.", lambda job: job.steps),
    Metric(
        "headrace_fleet_windows_total",
        "counter",
        "Windows sent, each an episode of every agent.",
        lambda job: job.windows,
    ),
    Metric(
        "headrace_fleet_mean_return",
        "gauge",
        "Mean unscaled return of the last window's episodes.",
        lambda job: {} if math.isnan(job.mean_return) else job.mean_return,
    ),
    Metric(
        "headrace_fleet_policy_version",
        "gauge",
        "The version that agents act with; 0 where they act at random.",
        lambda job: max(0, job.version),
    ),
)
