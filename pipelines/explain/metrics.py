"""What is measured of `explain`. docs/operations.md has the same table for people."""

from typing import Final

from headrace.pipelines.explain.job import Explainer
from headrace.pipelines.service.metrics import Metric, cache_errors, cache_requests

METRICS: Final[tuple[Metric[Explainer], ...]] = (
    Metric("headrace_explain_reports_total", "counter", "Reports appended.", lambda job: job.reports),
    Metric(
        "headrace_explain_narrator_refusals_total",
        "counter",
        "Answers of the narrator that failed or that its facts do not bear out.",
        lambda job: job.words.refusals,
    ),
    Metric(
        "headrace_explain_narrator_fallbacks_total",
        "counter",
        "Reports told by the template as the narrator's answers were refused.",
        lambda job: job.words.fallbacks,
    ),
    cache_requests(lambda job: job.chunks),
    cache_errors(lambda job: job.chunks),
)
