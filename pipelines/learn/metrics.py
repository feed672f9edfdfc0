"""What is measured of `learn`. docs/operations.md has the same table for people."""

from collections.abc import Callable, Mapping
from typing import Final

from headrace.learners.stream.algorithms import algorithm
from headrace.pipelines.learn.job import Learn
from headrace.pipelines.learn.learner import Learner
from headrace.pipelines.service.metrics import Kind, Labels, Metric, Value, cache_errors, cache_requests


def _by_task(name: str, kind: Kind, about: str, read: Callable[[Learner], Value | None]) -> Metric[Learn]:
    """Return a metric of each learner, by task; where `read` says None the task is left out."""

    def by_task(job: Learn) -> Mapping[Labels, Value]:
        values = {(task,): read(learner) for task, learner in job.learners.copy().items()}
        return {labels: value for labels, value in values.items() if value is not None}

    return Metric(name, kind, about, by_task, ("task",))


def _ratio(learner: Learner) -> float | None:
    counts = learner.training.counts
    return counts.sampled / counts.rows if counts.rows else None


def _unusable(learner: Learner) -> float | None:
    needed = algorithm(learner.training.config.algorithm).needs_log_prob
    return learner.training.counts.without_log_prob if needed else None


def _candidates(job: Learn) -> Mapping[Labels, float]:
    found: dict[Labels, float] = {}
    for task, learner in job.learners.copy().items():
        found |= {(task, "promoted"): learner.meters.promoted, (task, "refused"): learner.meters.refused}
    return found


METRICS: Final[tuple[Metric[Learn], ...]] = (
    _by_task(
        "headrace_learn_transitions_total",
        "counter",
        "Transitions taken in; goes on from the checkpoint.",
        lambda learner: learner.training.counts.rows,
    ),
    _by_task(
        "headrace_learn_samples_total",
        "counter",
        "Transitions that updates used, each as often as it was; goes on from the checkpoint.",
        lambda learner: learner.training.counts.sampled,
    ),
    _by_task(
        "headrace_learn_sample_to_insert_ratio",
        "gauge",
        "Samples by transition since the task's start; below the setting until learning has begun.",
        _ratio,
    ),
    _by_task(
        "headrace_learn_updates_total",
        "counter",
        "Updates of the weights; goes on from the checkpoint.",
        lambda learner: learner.training.updates,
    ),
    _by_task(
        "headrace_learn_skipped_updates_total",
        "counter",
        "Updates left out as they would have diverged; goes on from the checkpoint.",
        lambda learner: learner.training.counts.skipped_updates,
    ),
    _by_task(
        "headrace_learn_unusable_transitions_total",
        "counter",
        "Transitions without log_prob, from which PPO can't learn; goes on from the checkpoint.",
        _unusable,
    ),
    _by_task(
        "headrace_learn_dropped_share",
        "gauge",
        "Share of PPO's last rollout that was too old to learn from.",
        lambda learner: learner.meters.dropped_share,
    ),
    _by_task(
        "headrace_learn_effective_share",
        "gauge",
        "Effective share of PPO's last rollout, by its importance weights: 1 where agents act as the learner would.",
        lambda learner: learner.meters.effective_share,
    ),
    Metric(
        "headrace_learn_candidates_total",
        "counter",
        "Versions stored, by the gate's verdict (promoted, refused).",
        _candidates,
        ("task", "verdict"),
    ),
    _by_task(
        "headrace_learn_refusals",
        "gauge",
        "Candidates in a row that the gate has refused.",
        lambda learner: learner.progress.refusals,
    ),
    _by_task(
        "headrace_learn_canary_difference",
        "gauge",
        "What agents earn by the running canary less what the others do: by episode, where these end, else by row.",
        lambda learner: learner.meters.canary and learner.meters.canary.look.difference,
    ),
    _by_task(
        "headrace_learn_policy_version",
        "gauge",
        "The version that serves; 0 where none does.",
        lambda learner: learner.progress.serving or 0,
    ),
    _by_task(
        "headrace_learn_staleness_versions",
        "gauge",
        "The newest version's number less that of the version that acted, mean over the last rows that say which.",
        lambda learner: learner.meters.staleness,
    ),
    _by_task(
        "headrace_learn_window_to_policy_seconds",
        "histogram",
        "From a window's append to `windows` to the first candidate that learned from it, judged and stored.",
        lambda learner: learner.meters.window_to_policy_s,
    ),
    _by_task(
        "headrace_learn_transition_to_policy_seconds",
        "histogram",
        "The same from a transition's event time: true where agents stamp the real time.",
        lambda learner: learner.meters.transition_to_policy_s,
    ),
    cache_requests(lambda job: job.chunks),
    cache_errors(lambda job: job.chunks),
)
