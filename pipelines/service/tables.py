"""Every metric of every job, in one table a job. docs/operations.md has the same table for people."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from headrace.learners.stream.algorithms import algorithm
from headrace.pipelines.service.metrics import Labels, Metric, Value
from headrace.pipelines.service.service import Service, version
from headrace.sinks.chunks import CachedChunks

if TYPE_CHECKING:  # one job's metrics must not load another job's libraries
    from headrace.pipelines.explain.job import Explainer
    from headrace.pipelines.fleet.job import Fleet
    from headrace.pipelines.ingest.job import Ingest
    from headrace.pipelines.learn.job import Learn
    from headrace.pipelines.learn.learner import Learner
    from headrace.pipelines.report.job import Digest

EVERY_JOB: Final[tuple[Metric[Service], ...]] = (
    Metric(
        "headrace_info",
        "gauge",
        "1, with the job's name and headrace's version.",
        lambda s: {(s.name, version()): 1.0},
        ("name", "version"),
    ),
    Metric(
        "headrace_ready",
        "gauge",
        "1 where /readyz says 200, else 0.",
        lambda s: float(not s.unready()),
    ),
    Metric(
        "headrace_silence_seconds",
        "gauge",
        "Time since the main loop's last sign of life.",
        lambda s: max(0.0, time.monotonic() - s.pulse().beat_s),
    ),
    Metric(
        "headrace_dependency_retries_total",
        "counter",
        "Calls to a log, index or store that was down, each tried again.",
        lambda s: s.pulse().retries,
    ),
)

LAG: Final[Metric[Service]] = Metric(
    "headrace_lag_messages",
    "gauge",
    "Messages between the job's place in a partition that it has and the partition's end.",
    lambda s: s.lags(),
    ("topic", "partition"),
)


def _cache_errors_of(of: Callable[[Any], CachedChunks]) -> Metric[Any]:
    return Metric(
        "headrace_cache_errors_total",
        "counter",
        "Failures of the cache's server; each is a miss.",
        lambda job: {(level,): n for (level, what), n in of(job).cache.counters().items() if what == "error"},
        ("level",),
    )


def _cache_requests_of(of: Callable[[Any], CachedChunks]) -> Metric[Any]:
    return Metric(
        "headrace_cache_requests_total",
        "counter",
        "Chunks asked of the cache, by level and result (hit, miss).",
        lambda job: {name: n for name, n in of(job).cache.counters().items() if name[1] != "error"},
        ("level", "result"),
    )


def _by_name(counts: Mapping[str, int]) -> Mapping[Labels, float]:
    """Return counts by their only label. The copy is made in one step: the job may be adding to it."""
    return {(name,): count for name, count in dict(counts).items()}


def _commit_ages(job: "Ingest") -> Mapping[Labels, float]:
    now_s = time.monotonic()
    return {(str(partition),): now_s - at_s for partition, at_s in job.meters.moved_s.copy().items()}


INGEST: Final[tuple[Metric["Ingest"], ...]] = (
    Metric("headrace_ingest_messages_total", "counter", "Messages read.", lambda job: job.counts.messages),
    Metric(
        "headrace_ingest_transitions_total",
        "counter",
        "Transitions accepted.",
        lambda job: _by_name(job.meters.transitions),
        ("task",),
    ),
    Metric(
        "headrace_ingest_late_transitions_total",
        "counter",
        "Transitions that came after their window had closed; it is told again.",
        lambda job: job.counts.late,
    ),
    Metric(
        "headrace_ingest_rejected_messages_total",
        "counter",
        "Messages that went to transitions.rejected, by the rule that they broke.",
        lambda job: _by_name(job.counts.rejected),
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
        "Window summaries written and told, those that late rows bring about included.",
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
    Metric(
        "headrace_ingest_partitions",
        "gauge",
        "Partitions that this process has.",
        lambda job: len(job.positions),
    ),
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
    _cache_errors_of(lambda job: job.chunks),
)


def _tasks(read: Callable[["Learner"], Value | None]) -> Callable[["Learn"], Mapping[Labels, Value]]:
    """Return a reader of all learners, by task; None leaves a task out."""

    def by_task(job: "Learn") -> Mapping[Labels, Value]:
        values = {(task,): read(learner) for task, learner in job.learners.copy().items()}
        return {labels: value for labels, value in values.items() if value is not None}

    return by_task


def _ratio(learner: "Learner") -> float | None:
    counts = learner.training.counts
    return counts.sampled / counts.rows if counts.rows else None


def _unusable(learner: "Learner") -> float | None:
    needed = algorithm(learner.training.config.algorithm).needs_log_prob
    return learner.training.counts.without_log_prob if needed else None


def _candidates(job: "Learn") -> Mapping[Labels, float]:
    found: dict[Labels, float] = {}
    for task, learner in job.learners.copy().items():
        found |= {(task, "promoted"): learner.meters.promoted, (task, "refused"): learner.meters.refused}
    return found


LEARN: Final[tuple[Metric["Learn"], ...]] = (
    Metric(
        "headrace_learn_transitions_total",
        "counter",
        "Transitions taken in; goes on from the checkpoint.",
        _tasks(lambda learner: learner.training.counts.rows),
        ("task",),
    ),
    Metric(
        "headrace_learn_samples_total",
        "counter",
        "Transitions that updates used, each as often as it was; goes on from the checkpoint.",
        _tasks(lambda learner: learner.training.counts.sampled),
        ("task",),
    ),
    Metric(
        "headrace_learn_sample_to_insert_ratio",
        "gauge",
        "Samples by transition since the task's start; below the setting until learning has begun.",
        _tasks(_ratio),
        ("task",),
    ),
    Metric(
        "headrace_learn_updates_total",
        "counter",
        "Updates of the weights; goes on from the checkpoint.",
        _tasks(lambda learner: learner.training.updates),
        ("task",),
    ),
    Metric(
        "headrace_learn_skipped_updates_total",
        "counter",
        "Updates left out as they would have diverged; goes on from the checkpoint.",
        _tasks(lambda learner: learner.training.counts.skipped_updates),
        ("task",),
    ),
    Metric(
        "headrace_learn_unusable_transitions_total",
        "counter",
        "Transitions without log_prob, from which PPO can't learn; goes on from the checkpoint.",
        _tasks(_unusable),
        ("task",),
    ),
    Metric(
        "headrace_learn_dropped_share",
        "gauge",
        "Share of PPO's last rollout that was too old to learn from.",
        _tasks(lambda learner: learner.meters.dropped_share),
        ("task",),
    ),
    Metric(
        "headrace_learn_effective_share",
        "gauge",
        "Effective share of PPO's last rollout, by its importance weights: 1 where agents act as the learner would.",
        _tasks(lambda learner: learner.meters.effective_share),
        ("task",),
    ),
    Metric(
        "headrace_learn_candidates_total",
        "counter",
        "Versions stored, by the gate's verdict (promoted, refused).",
        _candidates,
        ("task", "verdict"),
    ),
    Metric(
        "headrace_learn_policy_version",
        "gauge",
        "The version that serves; 0 where none does.",
        _tasks(lambda learner: learner.progress.serving or 0),
        ("task",),
    ),
    Metric(
        "headrace_learn_staleness_versions",
        "gauge",
        "The newest version's number less that of the version that acted, mean over the last rows that say which.",
        _tasks(lambda learner: learner.meters.staleness),
        ("task",),
    ),
    Metric(
        "headrace_learn_window_to_policy_seconds",
        "histogram",
        "From a window's append to `windows` to the first candidate that learned from it, judged and stored.",
        _tasks(lambda learner: learner.meters.told_to_policy_s),
        ("task",),
    ),
    Metric(
        "headrace_learn_transition_to_policy_seconds",
        "histogram",
        "The same from a transition's event time: true where agents stamp the real time.",
        _tasks(lambda learner: learner.meters.emitted_to_policy_s),
        ("task",),
    ),
    _cache_requests_of(lambda job: job.chunks),
    _cache_errors_of(lambda job: job.chunks),
)

EXPLAIN: Final[tuple[Metric["Explainer"], ...]] = (
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
    _cache_requests_of(lambda job: job.chunks),
    _cache_errors_of(lambda job: job.chunks),
)

FLEET: Final[tuple[Metric["Fleet"], ...]] = (
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

DIGEST: Final[tuple[Metric["Digest"], ...]] = (
    Metric("headrace_digest_sent_total", "counter", "Digests handed to the mailer.", lambda job: job.outbox.sent),
    Metric(
        "headrace_digest_waiting_mails",
        "gauge",
        "Digests in the outbox that are due and not sent yet.",
        lambda job: job.outbox.waiting,
    ),
)

JOBS: Final[dict[str, tuple[Metric[Any], ...]]] = {
    "ingest": INGEST,
    "learn": LEARN,
    "explain": EXPLAIN,
    "fleet": FLEET,
    "digest": DIGEST,
}
"""Each job's own metrics. Every job has EVERY_JOB too, and those that follow a topic have LAG."""
