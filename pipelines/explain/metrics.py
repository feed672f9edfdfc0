"""What is measured of `explain`. docs/operations.md has the same table for people."""

from typing import Final

from headrace.pipelines.explain.job import Explainer
from headrace.pipelines.service.metrics import Metric, Reading, cache_errors, cache_requests


def _counted(job: Explainer, what: str) -> Reading:
    """Return what the narrator has counted, by the labels that it has; nothing of the template, which counts none."""
    found = job.words.narrator.counters()
    return {key[1:]: count for key, count in found.items() if key[0] == what}


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
    Metric(
        "headrace_explain_narrator_asked_total",
        "counter",
        "Questions to the language model, those asked again included.",
        lambda job: _counted(job, "asked"),
    ),
    Metric(
        "headrace_explain_narrator_cached_total",
        "counter",
        "Reports whose answer was known already.",
        lambda job: _counted(job, "cached"),
    ),
    Metric(
        "headrace_explain_narrator_barred_total",
        "counter",
        "Reports for which the language model was not asked, by reason.",
        lambda job: _counted(job, "barred"),
        ("reason",),
    ),
    Metric(
        "headrace_explain_narrator_failures_total",
        "counter",
        "Reports for which the language model gave no answer that can be read.",
        lambda job: _counted(job, "failed"),
    ),
    Metric(
        "headrace_explain_narrator_refused_sentences_total",
        "counter",
        "Sentences of the language model that were refused, by reason.",
        lambda job: _counted(job, "refused"),
        ("reason",),
    ),
    Metric(
        "headrace_explain_narrator_fallback_sentences_total",
        "counter",
        "Sentences that the template told in the language model's place.",
        lambda job: _counted(job, "fallback"),
    ),
    Metric(
        "headrace_explain_narrator_tokens_total",
        "counter",
        "Tokens of questions (in) and answers (out).",
        lambda job: _counted(job, "tokens"),
        ("direction",),
    ),
    Metric(
        "headrace_explain_narrator_seconds_total",
        "counter",
        "Time spent on the language model.",
        lambda job: _counted(job, "seconds"),
    ),
    cache_requests(lambda job: job.chunks),
    cache_errors(lambda job: job.chunks),
)
