"""What is measured of `digest`. docs/operations.md has the same table for people."""

from typing import Final

from headrace.pipelines.report.job import Digest
from headrace.pipelines.service.metrics import Metric

METRICS: Final[tuple[Metric[Digest], ...]] = (
    Metric("headrace_digest_sent_total", "counter", "Digests handed to the mailer.", lambda job: job.sent),
    Metric(
        "headrace_digest_refused_total",
        "counter",
        "Digests that no recipient's server takes.",
        lambda job: job.refused,
    ),
    Metric(
        "headrace_digest_waiting_mails",
        "gauge",
        "Digests in the outbox that are due and not sent yet.",
        lambda job: job.waiting,
    ),
)
